"""Which pictures a report has, in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from tuner.context import Context
from tuner.findings import Findings
from tuner.paper.staircase import staircase
from tuner.report import plots
from tuner.report.chart import Chart, frontier_chart
from tuner.report.evidence_plots import beside_caches, evidence
from tuner.report.finalists import Finalist, finalists
from tuner.report.profile_plots import profile_figures
from tuner.report.speeds import speeds_and_quality
from tuner.search.result import FrontierPoint
from tuner.search.space import error_models
from tuner.stages.choice import Verification
from tuner.stages.profile import Profiled

Frontier = tuple[Mapping[str, Sequence[FrontierPoint]], Sequence[Finalist]]


def figures(ctx: Context, findings: Findings) -> tuple[dict[str, Figure], dict[str, Chart]]:
    """Heading to figure, in the order of the report; and heading to chart, for those that a page can draw itself."""
    profiled, verification, target = findings.profiled, findings.verification, ctx.options.target_speedup
    drawn: dict[str, Figure] = {}
    charts: dict[str, Chart] = {}
    if findings.certification is not None:
        judged = findings.certification
        drawn["What the certificate rests on"] = evidence(judged.pairs, judged.denoise, target)
    proven = {t: found.certification for t, found in findings.certified(ctx.options).items() if found.certification}
    if len(proven) > 1:
        drawn["Quality against certified speed"] = speeds_and_quality(proven)
    if any(row.psnr is not None for row in findings.compared):
        drawn["Beside diffusers' own caches"] = beside_caches(findings.compared, target)
    if profiled is None:
        return drawn, charts
    if verification is not None:
        drawn["Where the schedule reduces"] = plots.schedule_maps(verification.chosen.schedule)
        for heading, (lines, shown) in _frontiers(ctx, profiled, verification).items():
            places = [(one.name, *one.place) for one in shown]
            drawn[heading] = plots.frontier(lines, places, target)
            chart = frontier_chart(lines, [(one.name, one.place, one.measurement) for one in shown], target)
            if chart is not None:
                charts[heading] = chart
        speedups = [(one.name, one.before, one.pooled, one.measured) for one in finalists(verification)]
        drawn["Predicted against measured speed-up"] = plots.predicted_against_measured(speedups)
        drawn["What the search tried"] = plots.search_history(verification.result.history)
    return {**drawn, **profile_figures(profiled.profile)}, charts


def _frontiers(ctx: Context, profiled: Profiled, verification: Verification) -> dict[str, Frontier]:
    """Heading to the lines and finalists that have a yardstick in common."""
    result, model, found = verification.result, verification.model, finalists(verification)
    copying = {
        "table": result.frontier,
        "threshold": result.threshold_points,
        "Appendix B": staircase(profiled.profile, model, error_models(profiled.profile, ctx.space)[0]),
    }
    copies = copying, [one for one in found if one.copies]
    if not result.memory_frontier:
        return {"Error against speed": copies}
    remember = {"memory and broadcasting": result.memory_frontier}, [one for one in found if not one.copies]
    return {"Error against speed": remember, "Error against speed, copying alone": copies}
