"""The runner on every supported pipeline class: layouts, callbacks, guidance in one or two calls."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from asymrnr import OtherWorkload
from tests.pipelines.helpers import schedule
from tests.pipelines.test_runtime import CALLS_PER_STEP
from tests.pipelines.tiny_pipelines import build, tiny_entry
from tuner.profile.profiler import Profiler
from tuner.profile.settings import ProfilerSettings
from tuner.run.lockstep import in_lockstep
from tuner.run.runner import Runner, Trajectory
from tuner.run.twin import twin_pipeline

STEPS = 3


def test_generations_are_timed_forced_and_summarised(runner: Runner, name: str) -> None:
    workload, calls = runner.entry.workload, STEPS * CALLS_PER_STEP.get(name, 1)
    plain = runner.generate("a cat", 0, record=True)
    assert plain.video.shape == (workload.frames, 3, workload.height, workload.width)
    assert plain.video.min() >= 0
    assert plain.video.max() <= 1
    assert plain.step_seconds.shape == (STEPS,)
    assert 0 < plain.step_seconds.sum() < plain.seconds
    assert plain.trajectory is not None
    assert (len(plain.trajectory.latents), len(plain.trajectory.outputs)) == (STEPS, calls)
    assert torch.equal(plain.trajectory.latents[-1].float(), plain.latents)

    again = runner.generate("a cat", 0, forced=plain.trajectory)
    assert again.forced_error is not None
    assert np.array_equal(again.forced_error, np.zeros(calls))
    assert torch.equal(again.video, plain.video)

    reduced = runner.generate("a cat", 0, schedule(runner.pipe, 0.6, 0.3), forced=plain.trajectory)
    assert reduced.forced_error is not None
    assert reduced.forced_error.shape == (calls,)
    assert np.all(reduced.forced_error > 0)
    assert reduced.summary is not None
    assert reduced.summary.steps_seen == STEPS
    assert torch.equal(reduced.video, plain.video)  # decoded from the trajectory it was forced along

    assert runner.time_steps(2, "a cat").shape == (2,)
    assert torch.equal(runner.generate("a cat", 0).video, plain.video)


def test_a_few_steps_in_lockstep_warn_of_nothing_and_leave_the_filters_as_they_were(runner: Runner, name: str) -> None:
    """The schedule that is timed has a column for every step timed, and the generation is longer."""
    twin, plan = Runner(twin_pipeline(runner.pipe), runner.entry), schedule(runner.pipe, 0.5, 0.4, steps=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherWorkload)
        before = list(warnings.filters)
        plain, tuned = in_lockstep(
            lambda turn: runner.time_steps(2, "a cat", turn=turn),
            lambda turn: twin.time_steps(2, "a cat", schedule=plan, turn=turn),
        )
        assert warnings.filters == before
    assert (len(plain), len(tuned)) == (2, 2)


def test_every_step_is_told(runner: Runner) -> None:
    told: list[int] = []
    runner.generate("a cat", 0, on_step=told.append)
    assert told == [1, 2, 3]


def test_errors_count_from_the_trajectory_and_not_from_the_own_path(runner: Runner) -> None:
    """Only the last call is reduced: all calls before it see what the recorded run saw."""
    plain = runner.generate("a cat", 0, record=True)
    plan = schedule(runner.pipe, 0.6, 0)
    rates = plan.rates["Q"].copy()
    rates[:, :-1] = 0
    last = type(plan)(rates={"Q": rates})
    errors = runner.generate("a cat", 0, last, forced=plain.trajectory).forced_error
    assert errors is not None
    early = len(errors) * (STEPS - 1) // STEPS
    assert np.all(errors[:early] == 0)
    assert np.all(errors[early:] > 0)


@pytest.mark.parametrize("name", ["hunyuanvideo", "wan-1.3b"])
def test_half_precision_pipelines_follow_trajectories_of_the_store(name: str) -> None:
    """The measurement store keeps float32, whatever the pipeline computes in."""
    runner = Runner(build(name).to(torch.bfloat16), tiny_entry(name))
    plain = runner.generate("a cat", 0, record=True)
    assert plain.trajectory is not None
    stored = Trajectory(*([t.float() for t in ts] for ts in (plain.trajectory.latents, plain.trajectory.outputs)))
    again = runner.generate("a cat", 0, forced=stored)
    assert again.forced_error is not None
    assert np.all(again.forced_error == 0)


def test_every_pipeline_can_be_profiled(runner: Runner, name: str) -> None:
    strides = ("1x2x2",) if name == "animatediff" else ("2x2x2", "1x2x2")
    settings = ProfilerSettings(strides=strides, cache_steps=(2,), rates=(0.3, 0.5), total_steps=STEPS, seed=0)
    profiler = Profiler(settings)
    runner.generate("a cat", 0, observer=profiler)
    profile = profiler.finish(model=name, workload=runner.entry.workload.as_dict(), prompt="a cat", generation_seed=0)
    curves = profile.q_error[strides[0], 2]
    assert curves.shape[1] == STEPS
    assert np.isfinite(curves).all()


def test_two_denoisers_are_one_trajectory() -> None:
    """Wan 2.2 begins with one transformer and ends with another."""
    first, second = build("wan-1.3b"), build("wan-1.3b", seed=1)
    pipe = type(first)(**{**first.components, "transformer_2": second.transformer}, boundary_ratio=0.9)
    pipe.set_progress_bar_config(disable=True)
    runner = Runner(pipe, tiny_entry("wan-1.3b"))
    late: list[int] = []
    with second.transformer.register_forward_hook(lambda *_: late.append(1)):
        plain = runner.generate("a cat", 0, record=True)
    assert 0 < len(late) < 2 * STEPS
    assert plain.trajectory is not None
    assert len(plain.trajectory.outputs) == 2 * STEPS
    reduced = runner.generate("a cat", 0, schedule(pipe, 0.6, 0.3), forced=plain.trajectory)
    assert reduced.forced_error is not None
    assert reduced.forced_error.shape == (2 * STEPS,)
    assert np.all(reduced.forced_error > 0)
