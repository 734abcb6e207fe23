"""What another seed changes in a model's videos: the yardstick of the certificate's video gate.

Two videos of one prompt differ more or less by chance (fivefold on the embedded model), so several prompts and seeds
are taken. Where things are in a video is settled in the first denoising steps, so short generations will do: on the
embedded model 0.008 in 6 steps and 0.011 in 30 (four seeds of one prompt, mean of six pairs).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from tuner.context import Context
from tuner.models.prompts import TUNED_ON
from tuner.quality.metrics import mse
from tuner.run.instrument import Made
from tuner.run.runner import Runner

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


def measure_noise_floor(ctx: Context) -> float:
    """Geometric mean of the mean squared errors between short unaccelerated videos of one prompt and different seeds.

    Raises:
        BudgetExhaustedError: the budget does not hold it.
    """
    entry, total = ctx.entry, ctx.entry.workload.steps
    steps = short_steps(total)
    prompts = entry.tuning_prompts(PROMPTS)
    ctx.progress.stage(STAGE, f"{PROMPTS * SEEDS} unaccelerated videos in {steps} steps")

    def make() -> Made:
        runner = Runner(ctx.instrument.runner.pipe, entry.with_workload(steps=steps))
        errors: list[float] = []
        for number, prompt in enumerate(prompts):
            videos = []
            for seed in range(SEEDS):
                ctx.progress.advance(number * SEEDS + seed, PROMPTS * SEEDS, prompt)
                videos.append(runner.generate(prompt, FIRST_SEED + seed).video)
            errors += [mse(first, second) for first, second in combinations(videos, 2)]
        return {"errors": errors}, {}

    key = ctx.instrument.key("noise-floor", prompts=prompts, seeds=SEEDS, first_seed=FIRST_SEED, steps=steps)
    errors = ctx.instrument.measure(STAGE, key, make, cost_ie(total)).values["errors"]
    ctx.report_budget()
    return float(np.exp(np.mean(np.log(np.maximum(errors, LEAST)))))
