"""Before anything is generated: how long steps take, what attention costs, and whether the target can be met at all."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np

from tuner.certify.statistics import relative_mad
from tuner.errors import InfeasibleError
from tuner.latency.micro import BURSTS, TIMED, Sites, latency_model, look_at_sites, measure_sites, undisturbed
from tuner.latency.model import LatencyModel
from tuner.latency.sites import SiteLatency
from tuner.run.context import Context
from tuner.search.feasibility import best_attainable_by_stride

STAGE = "preflight"
FRONTIER_FILE = "frontier.json"


@dataclass(frozen=True)
class Preflight:
    """What is known before the first whole generation.

    Attributes:
        step_seconds: wall time of one unaccelerated denoising step, undisturbed.
        scatter: relative median absolute deviation of such steps.
        attention_share: part of it spent in the self-attention calls that can be reduced.
        model: latency model built on what was measured.
    """

    step_seconds: float
    scatter: float
    attention_share: float
    model: LatencyModel


def attention_sites(ctx: Context) -> Sites:
    """The attention sites, seen now or by an earlier run."""
    key = ctx.meter.key("attention-sites")
    record = ctx.store.get(key)
    if record is None:
        record = ctx.store.put(key, asdict(look_at_sites(ctx.runner, ctx.tuning_prompt)), None)
    return Sites.from_dict(record.values)


def time_unaccelerated(ctx: Context) -> tuple[float, float]:
    """Seconds of one undisturbed, unaccelerated denoising step, and how all that were timed scatter (relative MAD).

    From here on the budget knows what a generation takes.
    """
    bursts = [ctx.meter.steps(STAGE, TIMED + 1, ctx.tuning_prompt, repeat=r)[1:] for r in range(BURSTS)]
    step_seconds = undisturbed(bursts)
    ctx.ledger.unit_seconds = step_seconds * ctx.entry.workload.steps
    ctx.report_budget()
    return step_seconds, relative_mad(np.concatenate(bursts))


def preflight(ctx: Context) -> Preflight:
    """Time a few steps and the attention shapes, and decide feasibility.

    Raises:
        InfeasibleError: not even the highest rates at every site reach the target; the best attainable is printed and
            written to `frontier.json`.
    """
    ctx.progress.stage(STAGE, "timing a few steps")
    sites = attention_sites(ctx)
    grids = " and ".join(dict.fromkeys("x".join(map(str, shape.grid)) for shape in sites.shapes))
    ctx.progress.advance(1, 3, f"{len(sites.shape_of)} attention sites, {grids} tokens")
    step_seconds, scatter = time_unaccelerated(ctx)

    ctx.progress.advance(2, 3, "timing attention, matching and gathering")
    key = ctx.meter.key("site-latency", strides=ctx.space.strides, sites=asdict(sites))
    record = ctx.store.get(key)
    if record is None:
        with ctx.ledger.timed(STAGE):
            measured = measure_sites(sites, ctx.space.strides, ctx.runner.device)
        record = ctx.store.put(key, measured.to_dict(), None)
    latency = SiteLatency.from_dict(record.values, len(sites.shape_of))
    model = latency_model(latency, step_seconds, ctx.entry.workload.steps)
    ctx.report_budget()

    target = ctx.options.target_speedup
    attainable = best_attainable_by_stride(model, ctx.space)
    best = max(attainable.values())
    share = min(1.0, latency.full_seconds / step_seconds)
    ctx.progress.advance(3, 3, f"attention is {share:.0%} of a step, at most {best:.2f}x can be reached")
    if target > best:
        frontier = {"target_speedup": target, "best_attainable": best, "best_attainable_by_stride": attainable}
        (ctx.options.output / FRONTIER_FILE).write_text(json.dumps(frontier, indent=2) + "\n")
        raise InfeasibleError(
            f"{target:g}x cannot be reached on {ctx.entry.name}: attention is {share:.0%} of a denoising step here, "
            f"and the highest rates at every site give at most {best:.2f}x; ask for less."
        )
    return Preflight(step_seconds, scatter, share, model)
