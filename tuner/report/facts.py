"""What came out of a run, in words: the verdict, the figures on top, and the closing table."""

from __future__ import annotations

import numpy as np

from tuner.context import Context, describe
from tuner.findings import Findings
from tuner.foretold import compared
from tuner.report.speeds import other_speeds, speedup_text
from tuner.search.result import Candidate
from tuner.stages.certify import STAGE as CERTIFY
from tuner.stages.certify import Certification


def verdict(ctx: Context, certification: Certification | None, error: BaseException | None) -> str:
    """What came out, in one sentence or two."""
    target = ctx.options.target_speedup
    if certification is not None and certification.certified:
        return (
            f"Denoising with {ctx.entry.name} is {certification.denoise.point:.2f}x faster, with 95 % confidence at "
            f"least {certification.denoise.lower_bound_95:.2f}x, for a target of {target:g}x, measured on "
            f"{len(certification.pairs)} held-out prompts."
        )
    if certification is not None and certification.failed():
        return " ".join(f"{gate.message}." for gate in certification.failed())
    if isinstance(error, KeyboardInterrupt):
        return "The run was interrupted; --resume goes on from what it measured."
    return "The run did not reach certification." if error is None else str(error)


def headline(ctx: Context, findings: Findings) -> dict[str, tuple[str, str]]:
    """What was asked and what came out: name to the figure and what it is about."""
    rows, certification = ctx.ledger.rows(), findings.certification
    found = {
        "asked for": (
            f"{ctx.options.target_speedup:g}x",
            f"denoising speed-up of {ctx.entry.name}, {ctx.entry.workload}",
        )
    }
    if certification is not None:
        low, n = certification.denoise.lower_bound_95, len(certification.pairs)
        what = "certified" if certification.certified else "measured"
        found[what] = (f"{certification.denoise.point:.2f}x", f"on {n} held-out {'pair' if n == 1 else 'pairs'}")
        bound = ("no bound", "a single pair has none") if low is None else (f"{low:.3f}x", "with 95 % confidence")
        found["at least"] = bound
        quality = _means(certification)
        change = next((gate for gate in certification.gates if gate.name == "video"), None)
        changes = "" if change is None else f", changes by {change.value:.1%} of what another seed changes"
        found["quality"] = (
            f"{quality['psnr']:.1f} dB",
            f"PSNR to the plain videos, SSIM {quality['ssim']:.4f}{changes}",
        )
    minutes = sum(row["seconds"] for row in rows) / 60
    found["cost"] = (f"{ctx.ledger.spent_ie:.1f}", f"generations, {minutes:.0f} min")
    return found


def facts(ctx: Context, findings: Findings) -> dict[str, str]:
    """The closing table: name to text."""
    verification, certification = findings.verification, findings.certification
    found = {"workload": str(ctx.entry.workload)}
    if certification is not None:
        found["denoising speed-up"] = speedup_text(certification.denoise)
        found["end-to-end speed-up"] = speedup_text(certification.end_to_end)
        modes = " and ".join(dict.fromkeys(pair.mode for pair in certification.pairs))
        found["evidence"] = (
            f"{len(certification.pairs)} held-out pairs, {modes}; {certification.disturbed_steps:.0%} of their "
            f"steps disturbed, {len(certification.disturbed)} pairs measured again; attempt {certification.attempt + 1}"
        )
    if verification is not None:
        chosen = verification.chosen
        found["schedule"] = describe(chosen.schedule)
        low, high = verification.model.speedup_interval(chosen.schedule)
        found["expected speed-up"] = (
            f"{verification.predicted_speedup:.3f}x, with all measurements pooled; the latency model alone says "
            f"{low:.2f}x to {high:.2f}x"
        )
        found["gap to the best possible, on the surrogate"] = gap_text(chosen)
        found["price of interpretability"] = price_text(verification.result.price_of_interpretability)
    if certification is not None:
        quality = _means(certification)
        found["PSNR to the unaccelerated video"] = f"{quality['psnr']:.1f} dB"
        found["SSIM to the unaccelerated video"] = f"{quality['ssim']:.4f}"
        if "attributes_right" in quality:
            found["attributes as prompted"] = f"{quality['attributes_right']:.0%}"
        kept = [pair.memory_bytes for pair in certification.pairs if pair.memory_bytes is not None]
        if kept:
            found["kept between steps"] = f"{max(kept) / 2**20:.1f} MiB at most"
    found |= other_speeds(ctx, findings)
    before = sum(row["ie"] or 0.0 for row in ctx.ledger.rows() if row["stage"] != CERTIFY)
    found["generations spent"] = f"{ctx.ledger.spent_ie:.1f} in all, {before:.1f} before certification"
    forecast = compared(ctx)
    if forecast is not None:
        found["forecast"] = forecast
    return found


def _means(certification: Certification) -> dict[str, float]:
    """Every quality metric, averaged over the pairs."""
    return {name: float(np.mean(values)) for name, values in certification.quality.items()}


def price_text(price: float | None) -> str:
    """What the paper's form of schedule costs, in a few words."""
    if price is None:
        return "no threshold rule tried reaches the speed"
    return f"the best threshold rule has {price:.2f} times the predicted error of the best table"


def gap_text(chosen: Candidate) -> str:
    """How far a schedule may be from the best of its kind, and which kind that is."""
    kind = "that restore with memory and broadcast" if chosen.recipe.form == "windows" else "that copy"
    return f"{chosen.gap:.1%}, among schedules {kind}"
