"""What another seed changes in a model's videos: the yardstick of the certificate's video gate.

Two videos of one prompt differ more or less by chance (fivefold on the embedded model), so several prompts and seeds
are taken. Where things are in a video is settled in the first denoising steps, so short generations will do: on the
embedded model 0.008 in 6 steps and 0.011 in 30 (four seeds of one prompt, mean of six pairs).
"""

from __future__ import annotations

import numpy as np

from tuner.context import Context
from tuner.models.prompts import TUNED_ON
from tuner.run.job import Job, Request

STAGE = "noise floor"
PROMPTS, SEEDS, FIRST_SEED = TUNED_ON, 3, 5_000_000
SHARE, SHORTEST = 10, 4  # steps of the short generations
LEAST = 1e-9  # mean squared error that counts as none


def short_steps(total: int) -> int:
    """Steps of the short generations of a model that takes so many."""
    return min(total, max(SHORTEST, total // SHARE))


def cost_ie(total: int) -> float:
    """What all of them cost, in unaccelerated generations of so many steps."""
    return PROMPTS * SEEDS * short_steps(total) / total


def requests(ctx: Context) -> list[Request]:
    """All of it at once; where several measurements are made at the same time, every prompt by itself."""
    instrument, total = ctx.instrument, ctx.entry.workload.steps
    prompts = ctx.entry.tuning_prompts(PROMPTS)

    def job(of: list[str]) -> Job:
        return instrument.job("noise-floor", prompts=of, seeds=SEEDS, first_seed=FIRST_SEED, steps=short_steps(total))

    whole, parts = job(prompts), [job([prompt]) for prompt in prompts]
    known = [instrument.store.get(part.key) is not None for part in parts]
    if instrument.store.get(whole.key) is not None or not (instrument.width > 1 or any(known)):
        return [Request(STAGE, whole, cost_ie(total))]
    return [Request(STAGE, part, cost_ie(total) / PROMPTS) for part in parts]


def measure_noise_floor(ctx: Context) -> float:
    """Geometric mean of the mean squared errors between short unaccelerated videos of one prompt and different seeds.

    Raises:
        BudgetExhaustedError: the budget does not hold it.
    """
    steps = short_steps(ctx.entry.workload.steps)
    ctx.progress.stage(STAGE, f"{PROMPTS * SEEDS} unaccelerated videos in {steps} steps")
    errors: list[float] = []
    for request in requests(ctx):
        record = ctx.instrument.measure(STAGE, request.job, request.expected_ie, ctx.progress.advance)
        errors += record.values["errors"]
    ctx.report_budget()
    return float(np.exp(np.mean(np.log(np.maximum(errors, LEAST)))))
