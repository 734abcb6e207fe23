"""Generations are timed step by step, forced along recorded ones, and never end in silent NaN."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from asymrnr.schedule import Schedule
from tests.pipeline.conftest import STEPS
from tuner.errors import NonFiniteError, UsageError
from tuner.models import REGISTRY, load_pipeline
from tuner.run.runner import Runner

PROMPT = "a red circle moving slowly left on a plain black background"


@pytest.fixture(scope="module")
def runner(quick_model: str) -> Runner:
    return Runner(load_pipeline(quick_model), REGISTRY[quick_model])


@pytest.fixture
def schedule() -> Schedule:
    rates = {f: np.full((8, STEPS), 0.5) for f in ("Q", "V")}
    return Schedule(rates=rates, stride=(2, 2, 2), cache_step=3)


def test_every_step_is_timed(runner: Runner) -> None:
    generation = runner.generate(PROMPT, 1)
    assert generation.step_seconds.shape == (STEPS,)
    assert 0 < generation.step_seconds.sum() <= generation.seconds
    assert generation.video.shape == (12, 3, 64, 64)
    assert len(runner.time_steps(2, PROMPT)) == 2


def test_forced_error_is_zero_for_the_plain_model_and_not_for_a_reduced_one(runner: Runner, schedule: Schedule) -> None:
    plain = runner.generate(PROMPT, 1, record=True)
    again = runner.generate(PROMPT, 1, forced=plain.trajectory)
    assert again.forced_error is not None
    assert np.all(again.forced_error == 0)
    reduced = runner.generate(PROMPT, 1, schedule, forced=plain.trajectory)
    assert reduced.forced_error is not None
    assert reduced.forced_error.shape == (STEPS,)
    assert np.all(reduced.forced_error > 0)


def test_a_schedule_that_breaks_the_model_is_told_from_a_broken_model(runner: Runner, schedule: Schedule) -> None:
    def poison(module: torch.nn.Module, inputs: object, output: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (output[0] * float("nan"), *output[1:])

    hook = runner.denoiser.register_forward_hook(poison)
    try:
        with pytest.raises(NonFiniteError, match="With this schedule"):
            runner.generate(PROMPT, 1, schedule)
        with pytest.raises(UsageError, match="without any schedule"):
            runner.generate(PROMPT, 1)
        with pytest.raises(UsageError, match="without any schedule"):
            runner.time_steps(1, PROMPT)
    finally:
        hook.remove()
