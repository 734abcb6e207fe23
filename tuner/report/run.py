"""Shows a finished run: the HTML report, its figures as files, and the table on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from tuner.certify.protocol import STAGE as CERTIFY
from tuner.certify.protocol import Certification
from tuner.certify.verify import Verification
from tuner.paper.staircase import staircase
from tuner.profile.stage import Profiled
from tuner.report import plots
from tuner.report.html import Comparison, RunReport, render_report
from tuner.report.profile_plots import profile_figures
from tuner.run.context import Context, describe
from tuner.run.identity import environment
from tuner.run.ledger import Ledger
from tuner.search.space import error_models

if TYPE_CHECKING:
    from tuner.pipeline import Outcome

REPORT_FILE = "report.html"
FIGURES = "figures"


def facts(verification: Verification, certification: Certification, ledger: Ledger) -> dict[str, str]:
    """The closing table: name to text."""
    speed, whole = certification.denoise, certification.end_to_end
    quality = {name: float(np.mean(values)) for name, values in certification.quality.items()}
    chosen = verification.chosen
    found = {
        "denoising speed-up": f"{speed.point:.3f}x, at least {speed.lower_bound_95:.3f}x with 95 % confidence",
        "end-to-end speed-up": f"{whole.point:.3f}x, at least {whole.lower_bound_95:.3f}x with 95 % confidence",
        "schedule": describe(chosen.candidate.schedule),
        "sites reduced": f"{chosen.reduced_sites} of {2 * chosen.candidate.schedule.rates['Q'].size}",
        "PSNR to the unaccelerated video": f"{quality['psnr']:.1f} dB",
        "SSIM to the unaccelerated video": f"{quality['ssim']:.4f}",
        "teacher-forced denoiser error": f"{quality['teacher_forced_error']:.4f} (relative L2)",
        "gap to the best possible, on the surrogate": f"{chosen.candidate.gap:.1%}",
        "price of interpretability": price_text(verification.result.price_of_interpretability),
    }
    if "attributes_right" in quality:
        found["attributes as prompted"] = f"{quality['attributes_right']:.0%}"
    before = sum(row["ie"] or 0.0 for row in ledger.rows() if row["stage"] != CERTIFY)
    found["generations spent"] = f"{ledger.spent_ie:.1f} in all, {before:.1f} before certification"
    return found


def price_text(price: float | None) -> str:
    """What the paper's form of schedule costs, in a few words."""
    if price is None:
        return "no threshold rule tried reaches the speed"
    return f"the best threshold rule has {price:.2f} times the predicted error of the best table"


def figures(ctx: Context, profiled: Profiled, verification: Verification) -> dict[str, Figure]:
    """Heading to figure, in the order of the report."""
    result, chosen = verification.result, verification.chosen.candidate
    names = [f"finalist {i}" for i, _ in enumerate(verification.verified, start=1)]
    found = list(zip(names, verification.verified, strict=True))
    measured = [(name, v.predicted_speedup, v.measured_speedup) for name, v in found]
    # Seen with the latency model as it was corrected last, like the lines.
    reached = [
        (name, verification.model.speedup(v.candidate.schedule), v.candidate.predicted_error) for name, v in found
    ]
    profile = profiled.profile
    lines = {
        "table": result.frontier,
        "threshold": result.threshold_points,
        "Appendix B": staircase(profile, verification.model, error_models(profile, ctx.space)[0]),
    }
    return {
        "Where the schedule reduces": plots.schedule_maps(chosen.schedule),
        **profile_figures(profile),
        "What the search tried": plots.search_history(result.history),
        "Error against speed": plots.frontier(lines, reached, ctx.options.target_speedup),
        "Predicted against measured speed-up": plots.predicted_against_measured(measured),
    }


def write_report(ctx: Context, profiled: Profiled, verification: Verification, certification: Certification) -> Path:
    """Write the HTML report and every figure as SVG and PNG; returns the report's path."""
    drawn = figures(ctx, profiled, verification)
    plots.save_figures(drawn, ctx.options.output / FIGURES)
    target, speed = ctx.options.target_speedup, certification.denoise
    failed = certification.failed()
    verdict = (
        f"Denoising with {ctx.entry.name} is {speed.point:.2f}x faster, with 95 % confidence at least "
        f"{speed.lower_bound_95:.2f}x, for a target of {target:g}x, measured on held-out prompts."
        if not failed
        else " ".join(f"{gate.message}." for gate in failed)
    )
    report = RunReport(
        title=f"{ctx.entry.name} at {target:g}x",
        certified=certification.certified,
        verdict=verdict,
        facts=facts(verification, certification, ctx.ledger),
        gates=certification.gates,
        figures=drawn,
        comparisons=[Comparison(p.prompt, p.baseline.video, p.tuned.video) for p in certification.pairs],
        ledger=ctx.ledger.rows(),
        environment=environment(),
        command=ctx.options.command,
    )
    path = ctx.options.output / REPORT_FILE
    path.write_text(render_report(report))
    return path


def print_summary(outcome: Outcome, console: Console) -> None:
    """The closing table on the terminal."""
    table = Table(title=f"{outcome.ctx.entry.name}: certified", show_header=False, title_justify="left")
    for name, text in facts(outcome.verification, outcome.certification, outcome.ctx.ledger).items():
        table.add_row(name, text)
    for gate in outcome.certification.gates:
        table.add_row(f"gate: {gate.name}", f"{gate.verdict}  {gate.message}")
    console.print(table)
    console.print(f"schedule  {outcome.path}\nreport    {outcome.report}", highlight=False)
