"""Shows a run, finished or not: the HTML report, its figures as files, and the table on the terminal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from tuner.context import Context, describe
from tuner.findings import Findings, Outcome
from tuner.paper.staircase import staircase
from tuner.report import plots
from tuner.report.evidence_plots import beside_caches, evidence
from tuner.report.html import Comparison, RunReport, render_report
from tuner.report.profile_plots import profile_figures
from tuner.report.speeds import other_speeds, speeds_and_quality, speedup_text
from tuner.run.identity import environment
from tuner.search.space import error_models
from tuner.stages.certify import STAGE as CERTIFY
from tuner.stages.certify import Certification
from tuner.stages.profile import Profiled
from tuner.stages.verify import Verification

REPORT_FILE = "report.html"
FIGURES = "figures"


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
        found["gap to the best possible, on the surrogate"] = f"{chosen.gap:.1%}"
        found["price of interpretability"] = price_text(verification.result.price_of_interpretability)
    if certification is not None:
        quality = {name: float(np.mean(values)) for name, values in certification.quality.items()}
        found["PSNR to the unaccelerated video"] = f"{quality['psnr']:.1f} dB"
        found["SSIM to the unaccelerated video"] = f"{quality['ssim']:.4f}"
        if "attributes_right" in quality:
            found["attributes as prompted"] = f"{quality['attributes_right']:.0%}"
    found |= other_speeds(ctx, findings)
    before = sum(row["ie"] or 0.0 for row in ctx.ledger.rows() if row["stage"] != CERTIFY)
    found["generations spent"] = f"{ctx.ledger.spent_ie:.1f} in all, {before:.1f} before certification"
    return found


def price_text(price: float | None) -> str:
    """What the paper's form of schedule costs, in a few words."""
    if price is None:
        return "no threshold rule tried reaches the speed"
    return f"the best threshold rule has {price:.2f} times the predicted error of the best table"


def figures(ctx: Context, profiled: Profiled, verification: Verification | None) -> dict[str, Figure]:
    """Heading to figure, in the order of the report."""
    profile = profiled.profile
    if verification is None:
        return profile_figures(profile)
    result, model = verification.result, verification.model
    names = [f"finalist {i}" for i, _ in enumerate(verification.verified, start=1)]
    found = list(zip(names, verification.verified, strict=True))
    measured = [(name, v.predicted_speedup, v.measured_speedup) for name, v in found]
    # Seen with the latency model as it was corrected last, like the lines.
    reached = [(name, model.speedup(v.candidate.schedule), v.candidate.predicted_error) for name, v in found]
    copying = {
        "table": result.frontier,
        "threshold": result.threshold_points,
        "Appendix B": staircase(profile, model, error_models(profile, ctx.space)[0]),
    }
    target = ctx.options.target_speedup
    against: dict[str, Figure] = {}
    if result.memory_frontier:
        lines = {"memory and broadcasting": result.memory_frontier}
        against["Error against speed"] = plots.frontier(lines, reached, target)
        against["Error against speed, copying alone"] = plots.frontier(copying, [], target)
    else:
        against["Error against speed"] = plots.frontier(copying, reached, target)
    return {
        "Where the schedule reduces": plots.schedule_maps(verification.chosen.schedule),
        **profile_figures(profile),
        "What the search tried": plots.search_history(result.history),
        **against,
        "Predicted against measured speed-up": plots.predicted_against_measured(measured),
    }


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


def write_report(ctx: Context, findings: Findings) -> Path:
    """Write the HTML report and every figure as SVG and PNG, of as much as there is; returns the report's path."""
    profiled, certification, target = findings.profiled, findings.healthy, ctx.options.target_speedup
    drawn = {} if profiled is None else figures(ctx, profiled, findings.verification)
    if certification is not None:
        drawn = {"What the certificate rests on": evidence(certification.pairs, certification.denoise, target), **drawn}
    proven = {t: found.certification for t, found in findings.certified(ctx.options).items() if found.certification}
    if len(proven) > 1:
        drawn = {"Quality against certified speed": speeds_and_quality(proven), **drawn}
    if any(row.psnr is not None for row in findings.compared):
        drawn = {"Beside diffusers' own caches": beside_caches(findings.compared, target), **drawn}
    plots.save_figures(drawn, ctx.options.output / FIGURES)
    pairs = () if certification is None else certification.pairs
    artifact = findings.artifact
    report = RunReport(
        title=f"{ctx.entry.name} at {target:g}x",
        certified=certification is not None and certification.certified,
        verdict=verdict(ctx, certification, findings.error),
        facts=facts(ctx, findings),
        gates=() if certification is None else certification.gates,
        figures=drawn,
        comparisons=[Comparison(p.prompt, p.plain.video, p.tuned.video) for p in pairs],
        compared=findings.compared,
        ledger=ctx.ledger.rows(),
        environment=environment() if artifact is None else artifact.provenance.environment,
        command=ctx.options.command,
    )
    path = ctx.options.output / REPORT_FILE
    path.write_text(render_report(report))
    return path


def print_summary(outcome: Outcome, console: Console) -> None:
    """The closing table on the terminal."""
    found = outcome.findings
    table = Table(title=f"{outcome.ctx.entry.name}: certified", show_header=False, title_justify="left")
    for name, text in facts(outcome.ctx, found).items():
        table.add_row(name, text)
    assert found.artifact is not None
    for gate in found.artifact.gates:
        table.add_row(f"gate: {gate.name}", f"{gate.verdict}  {gate.message}")
    for row in found.compared:
        measured = [] if row.speedup is None else [f"{row.speedup:.2f}x"]
        measured += [] if row.psnr is None else [f"at {row.psnr:.1f} dB"]
        table.add_row(f"on one prompt: {row.name}", " ".join(measured) + (f" {row.note}" if row.note else ""))
    console.print(table)
    console.print(f"schedule  {found.path}\nreport    {outcome.report}", highlight=False)
