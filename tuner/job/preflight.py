"""Before anything is generated: how long steps take, what attention costs, and whether the target can be met at all."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

import asymrnr
from tuner.errors import InfeasibleError
from tuner.job.context import Context
from tuner.profile.latency import LatencySurface
from tuner.search.feasibility import best_attainable_by_stride
from tuner.surrogate.latency import LatencyModel

STAGE = "preflight"
WARM_UP, TIMED = 2, 4
SURFACE_SECONDS = 2.0
FRONTIER_FILE = "frontier.json"


@dataclass(frozen=True)
class Preflight:
    """What is known before the first whole generation.

    Attributes:
        step_seconds: wall time of one unaccelerated denoising step (median).
        attention_share: part of it spent in the self-attention calls that can be reduced.
        model: latency model built on the measured surface.
    """

    step_seconds: float
    attention_share: float
    model: LatencyModel


def _look(ctx: Context) -> tuple[asymrnr.AttentionCall, int]:
    """Warm up, and see one attention call and the number of attention sites as the model really uses them."""
    calls: list[asymrnr.AttentionCall] = []

    def keep_first(call: asymrnr.AttentionCall) -> None:
        if call.step == 0:
            calls.append(call)

    with asymrnr.observe(ctx.runner.pipe, keep_first):
        ctx.runner.time_steps(WARM_UP, ctx.tuning_prompt)
    return calls[0], max(call.block for call in calls) + 1


def preflight(ctx: Context) -> Preflight:
    """Time a few steps and the attention shapes, and decide feasibility.

    Raises:
        InfeasibleError: not even the highest rates at every site reach the target; the best attainable is printed and
            written to `frontier.json`.
    """
    ctx.progress.stage(STAGE, "timing a few steps")
    call, sites = _look(ctx)
    ctx.progress.advance(1, 3, f"{sites} attention sites on a grid of {'x'.join(map(str, call.grid))} tokens")
    steps = np.concatenate([ctx.meter.steps(STAGE, TIMED + 1, ctx.tuning_prompt, repeat=r)[1:] for r in range(2)])
    step_seconds = float(np.median(steps))
    total_steps = ctx.entry.workload.steps
    ctx.ledger.unit_seconds = step_seconds * total_steps
    ctx.report_budget()

    ctx.progress.advance(2, 3, "timing attention, matching and gathering")
    video_tokens = int(np.prod(call.grid))
    key = ctx.meter.key("latency-surface", strides=ctx.space.strides, grid=call.grid)
    record = ctx.store.get(key)
    if record is None:
        with ctx.ledger.timed(STAGE):
            surface = LatencySurface.measure(
                heads=call.query.shape[1],
                head_dim=call.query.shape[3],
                grid=call.grid,
                text_tokens=call.query.shape[2] - video_tokens,
                batch=call.query.shape[0],
                strides=ctx.space.strides,
                budget_seconds=SURFACE_SECONDS,
                dtype=call.query.dtype,
                device=call.query.device,
            )
        record = ctx.store.put(key, {"surface": surface.to_dict()}, None)
    surface = LatencySurface.from_dict(record.values["surface"])
    full = float(surface.attention_seconds(0.0, 0.0)) * sites
    model = LatencyModel(surface, sites, total_steps, rest_seconds=max(0.0, step_seconds - full) * total_steps)
    ctx.report_budget()

    target = ctx.options.target_speedup
    attainable = best_attainable_by_stride(model, ctx.space)
    best = max(attainable.values())
    share = min(1.0, full / step_seconds)
    ctx.progress.advance(3, 3, f"attention is {share:.0%} of a step, at most {best:.2f}x can be reached")
    if target > best:
        frontier = {"target_speedup": target, "best_attainable": best, "best_attainable_by_stride": attainable}
        (ctx.options.output / FRONTIER_FILE).write_text(json.dumps(frontier, indent=2) + "\n")
        raise InfeasibleError(
            f"{target:g}x cannot be reached on {ctx.entry.name}: attention is {share:.0%} of a denoising step here, "
            f"and the highest rates at every site give at most {best:.2f}x; ask for less."
        )
    return Preflight(step_seconds, share, model)

