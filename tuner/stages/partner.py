"""A cache of diffusers alone: calibrated where it has to be, and measured beside the plain model."""

from __future__ import annotations

import ast
import io
from contextlib import redirect_stdout

import numpy as np

from asymrnr.adapters import find_adapter
from asymrnr.install import self_attentions
from asymrnr.partner import Partner
from asymrnr.schedule import Schedule
from tuner.context import Context
from tuner.errors import UsageError
from tuner.latency.alongside import Alongside
from tuner.run.instrument import Made
from tuner.run.pair import Pair
from tuner.run.runner import Runner

STAGE = "partner"


def alone(partner: Partner, blocks: int, steps: int) -> Schedule:
    """A schedule that does nothing but bring the cache along."""
    return Schedule({"Q": np.zeros((blocks, steps))}, partner=partner)


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


def ready(ctx: Context, partner: Partner) -> Partner:
    """The cache, told how much residuals change where it has to be (MagCache), from one generation."""
    if not partner.needs_calibration:
        return partner

    def make() -> Made:
        return {"ratios": magnitude_ratios(ctx.instrument.runner, ctx.tuning_prompt, ctx.tuning_seed)}, {}

    key = ctx.instrument.key("magnitude-ratios", prompt=ctx.tuning_prompt, seed=ctx.tuning_seed)
    return partner.calibrated(ctx.instrument.measure(STAGE, key, make, 1.0).values["ratios"])


def magnitude_ratios(runner: Runner, prompt: str, seed: int) -> list[float]:
    """How much residuals change at every step, as MagCache calibrates itself; it prints them, and nothing else tells.

    Args:
        runner: of the model.
        prompt, seed: of the calibrating generation.
    """
    steps, said = runner.entry.workload.steps, io.StringIO()
    blocks = len(self_attentions(runner.denoiser, find_adapter(runner.denoiser)))
    calibrating = Partner("mag-cache", {"calibrate": True, "num_inference_steps": steps})
    with redirect_stdout(said):
        runner.generate(prompt, seed, alone(calibrating, blocks, steps))
    line = next(line for line in said.getvalue().splitlines() if line.startswith("[1.0"))
    return [float(ratio) for ratio in ast.literal_eval(line)]
