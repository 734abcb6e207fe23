"""What another seed changes in a model's videos: the yardstick of the certificate's video gate.

Two videos of one prompt differ more or less by chance (fivefold on the embedded model), so several prompts and seeds
are taken. Where things are in a video is settled in the first denoising steps, so short generations will do: on the
embedded model 0.008 in 6 steps and 0.011 in 30 (four seeds of one prompt, mean of six pairs).
"""

from __future__ import annotations

import numpy as np

from tuner.context import Context
from tuner.forecast import LONG_SECONDS
from tuner.models.prompts import TUNED_ON
from tuner.run.job import Job, Request

STAGE = "noise floor"
PROMPTS, SEEDS, FIRST_SEED = TUNED_ON, 3, 5_000_000
SEEDS_OF_LONG = 2  # of models whose generations take long, see `LONG_SECONDS`
SHARE, SHORTEST = 10, 4  # steps of the short generations
LEAST = 1e-9  # mean squared error that counts as none


def short_steps(total: int) -> int:
    """Steps of the short generations of a model that takes so many."""
    return min(total, max(SHORTEST, total // SHARE))


def cost_ie(total: int, seeds: int = SEEDS) -> float:
    """What all of them cost, in unaccelerated generations of so many steps."""
    return PROMPTS * seeds * short_steps(total) / total


def requests(ctx: Context) -> list[Request]:
    """All of it at once; where several measurements are made at the same time, every prompt by itself."""
    usual = _requests(ctx, SEEDS)
    known = any(ctx.instrument.store.get(request.job.key) is not None for request in usual)
    long = (ctx.ledger.unit_seconds or 0.0) >= LONG_SECONDS
    return _requests(ctx, SEEDS_OF_LONG) if long and not known else usual


def _requests(ctx: Context, seeds: int) -> list[Request]:
    instrument, total = ctx.instrument, ctx.entry.workload.steps
    prompts, cost = ctx.entry.tuning_prompts(PROMPTS), cost_ie(ctx.entry.workload.steps, seeds)

    def job(of: list[str]) -> Job:
        return instrument.job("noise-floor", prompts=of, seeds=seeds, first_seed=FIRST_SEED, steps=short_steps(total))

    whole, parts = job(prompts), [job([prompt]) for prompt in prompts]
    known = [instrument.store.get(part.key) is not None for part in parts]
    if instrument.store.get(whole.key) is not None or not (instrument.width > 1 or any(known)):
        return [Request(STAGE, whole, cost)]
    return [Request(STAGE, part, cost / PROMPTS) for part in parts]


def measure_noise_floor(ctx: Context) -> float:
    """Geometric mean of the mean squared errors between short unaccelerated videos of one prompt and different seeds.

    Raises:
        BudgetExhaustedError: the budget does not hold it.
    """
    wanted, steps = requests(ctx), short_steps(ctx.entry.workload.steps)
    videos = sum(len(request.job.key["prompts"]) * request.job.key["seeds"] for request in wanted)
    ctx.progress.stage(STAGE, f"{videos} unaccelerated videos in {steps} steps")
    errors: list[float] = []
    for request in wanted:
        record = ctx.instrument.measure(STAGE, request.job, request.expected_ie, ctx.progress.advance)
        errors += record.values["errors"]
    ctx.report_budget()
    return float(np.exp(np.mean(np.log(np.maximum(errors, LEAST)))))
