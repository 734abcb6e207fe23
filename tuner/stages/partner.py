"""A cache of diffusers alone: calibrated where it has to be, and measured beside the plain model."""

from __future__ import annotations

from asymrnr.partner import Partner
from tuner.context import Context
from tuner.errors import UsageError
from tuner.latency.alongside import Alongside, alone
from tuner.run.job import Request
from tuner.run.pair import Pair

STAGE = "partner"


def measure_pair(ctx: Context, partner: Partner, blocks: int) -> Pair:
    """The first tuning prompt with the cache alone, beside the plain model; calibrate it before (`ready`)."""
    schedule = alone(partner, blocks, ctx.entry.workload.steps)
    return ctx.instrument.pair(STAGE, ctx.tuning_prompt, ctx.tuning_seed + 1, schedule)


def measure_alongside(ctx: Context, partner: Partner, blocks: int) -> Alongside:
    """What the steps take with the cache alone.

    Raises:
        UsageError: it leaves nothing out.
    """
    partner = ready(ctx, partner)
    pair = measure_pair(ctx, partner, blocks)
    if not (pair.skipped > 0).any():
        raise UsageError(f"{partner} leaves nothing out on {ctx.entry.name}; give it another number, or another cache.")
    return Alongside.of(partner, pair.plain.step_seconds, pair.tuned.step_seconds, pair.skipped)


def calibration(ctx: Context) -> Request:
    """The generation that tells how much residuals change."""
    job = ctx.instrument.job("magnitude-ratios", prompt=ctx.tuning_prompt, seed=ctx.tuning_seed)
    return Request(STAGE, job, 1.0)


def ready(ctx: Context, partner: Partner) -> Partner:
    """The cache, told how much residuals change where it has to be (MagCache), from one generation."""
    if not partner.needs_calibration:
        return partner
    wanted = calibration(ctx)
    return partner.calibrated(ctx.instrument.measure(STAGE, wanted.job, wanted.expected_ie).values["ratios"])
