"""Before anything is generated: how long steps take, what reduction saves, and whether the target can be met."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from asymrnr.partner import Partner
from asymrnr.schedule import Schedule
from tuner.context import Context
from tuner.errors import InfeasibleError
from tuner.latency.calibrate import calibration_schedule, evidence_by_matching, period
from tuner.latency.fit import fit
from tuner.latency.micro import Sites, latency_model
from tuner.latency.model import LatencyModel
from tuner.latency.sites import SiteLatency
from tuner.search.feasibility import best_attainable_by_stride, best_attainable_with_memory
from tuner.stages.partner import measure_alongside

STAGE = "preflight"
FRONTIER_FILE = "frontier.json"
WINDOWS = 4  # of matchings, in the steps that are timed; the first one warms up
REUSE_STEPS = 6  # timed to see what a step takes without its blocks
POSSIBLE_SHARE = 1e-3, 0.9
SURE = 2.0  # standard deviations beyond which a target is out of reach


@dataclass(frozen=True)
class Preflight:
    """What is known before the first whole generation.

    Attributes:
        model: latency model of this machine: the micro-benchmarks, corrected by steps of a simple schedule.
        best_attainable: highest predicted speed-up of the search space.
    """

    model: LatencyModel
    best_attainable: float


def attention_sites(ctx: Context) -> Sites:
    """The attention sites, seen now or by an earlier run."""
    record = ctx.instrument.measure(STAGE, ctx.instrument.job("attention-sites", {"prompt": ctx.tuning_prompt}))
    return Sites.from_dict(record.values)


def measure_latency(ctx: Context) -> LatencyModel:
    """The latency model of this machine, before whole generations correct it.

    The attention calls are timed by themselves, and what is around them while the sites are looked at; then a few steps
    of a simple schedule, in lock-step with plain ones, tell what they are worth inside the model. From here on the
    budget knows what a generation takes.
    """
    sites = attention_sites(ctx)
    grids = " and ".join(dict.fromkeys("x".join(map(str, shape.grid)) for shape in sites.shapes))
    ctx.progress.advance(1, 3, f"{len(sites.shape_of)} attention sites, {grids} tokens; timing attention and matching")
    strides, seen = ctx.space.strides, asdict(sites)
    del seen["projection_ratios"], seen["attention_share"]  # times are measurements, and earlier runs have none
    job = ctx.instrument.job("site-latency", {"sites": asdict(sites)}, strides=strides, sites=seen)
    record = ctx.instrument.measure(STAGE, job)
    latency = SiteLatency.from_dict(record.values, len(sites.shape_of))

    ctx.progress.advance(2, 3, "timing a few steps, plain and reduced in turn")
    total, with_memory = ctx.entry.workload.steps, ctx.options.actions == "all"
    every = period(ctx.space.cache_steps[0], with_memory)
    steps, skipped = min(total, WINDOWS * every), every if total >= 2 * every else 0
    schedule = calibration_schedule(latency, strides[0], steps, every, with_memory)
    plain, tuned = (
        seconds[skipped:] for seconds in ctx.instrument.first_steps(STAGE, ctx.tuning_prompt, schedule, steps)
    )
    step_seconds = float(np.median(plain))
    ctx.ledger.unit_seconds = step_seconds * total
    ctx.report_budget()
    timed = calibration_schedule(latency, strides[0], len(plain), every, with_memory)
    short = latency_model(latency, step_seconds, len(plain), sites.attention_share)
    fitted = fit(short, evidence_by_matching(timed, plain, tuned))
    share = time_without_blocks(ctx, latency.blocks) if ctx.space.reuse else None
    return replace(fitted, steps=total, reused_share=share)


def time_without_blocks(ctx: Context, blocks: int) -> float:
    """What a step takes in which a cache leaves all blocks out, as a share of a step, from a few steps in turn."""
    left_out = np.arange(min(ctx.entry.workload.steps, REUSE_STEPS)) % 2 == 1
    nothing = {"Q": np.zeros((blocks, len(left_out)))}
    schedule = Schedule(rates=nothing, partner=Partner.planned(left_out))
    plain, tuned = ctx.instrument.first_steps(STAGE, ctx.tuning_prompt, schedule, len(left_out))
    return float(np.clip(np.median((tuned / plain)[left_out]), *POSSIBLE_SHARE))


def preflight(ctx: Context) -> Preflight:
    """Time a few steps and the attention shapes, and decide feasibility.

    Raises:
        InfeasibleError: not even the highest rates at every site reach the target, whatever the uncertainty; the best
            attainable is written to `frontier.json`.
    """
    ctx.progress.stage(STAGE, "looking at the attention sites")
    model = measure_latency(ctx)
    attainable = best_attainable_by_stride(model, ctx.space)
    broadcasting = best_attainable_with_memory(model, ctx.space) if ctx.options.actions == "all" else 1.0
    best = max(broadcasting, *attainable.values())
    if ctx.partner is not None:
        ctx.progress.advance(2, 3, f"one generation with {ctx.partner} alone")
        model = replace(model, alongside=measure_alongside(ctx, ctx.partner, model.blocks))
        best = best_attainable_with_memory(model, ctx.space)
    share = f"{model.attention_share:.0%}"
    ctx.progress.advance(3, 3, f"attention is {share} of a step, at most {best:.2f}x can be reached")
    target = ctx.options.target_speedup
    copying = calibration_schedule(model.sites, ctx.space.strides[0], model.steps, ctx.space.cache_steps[0], False)
    uncertainty = model.log_speedup_sd(copying)
    if target > best * math.exp(SURE * uncertainty):
        if not ctx.instrument.store.read_only:
            write_frontier(ctx.options.output, target, best, attainable)
        raise InfeasibleError(
            f"{target:g}x cannot be reached on {ctx.entry.name}: attention is {share} of a denoising "
            f"step here, and reducing and reusing as much as possible gives at most {best:.2f}x; ask for less."
        )
    return Preflight(model, best)


def write_frontier(folder: Path, target: float, best: float, attainable: dict[str, float]) -> None:
    """Write what can be reached, and by copying at each stride."""
    frontier = {
        "target_speedup": target,
        "best_attainable": best,
        "best_attainable_by_stride": attainable,
    }
    (folder / FRONTIER_FILE).write_text(json.dumps(frontier, indent=2) + "\n")
