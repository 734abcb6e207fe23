"""A method beside the plain pipeline: both sides are what they would be alone, and what a cache skips is known."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from asymrnr import Action
from asymrnr.partner import Partner
from asymrnr.schedule import Schedule
from tests.pipelines.tiny_pipelines import build, tiny_entry
from tuner.run.estimate import PairedSteps, estimate_pair, estimate_shaped
from tuner.run.runner import Runner

NAME, STEPS = "cogvideox-2b", 4


@pytest.fixture
def runner() -> Runner:
    return Runner(build(NAME), tiny_entry(NAME, STEPS))


@contextmanager
def pyramid(runner: Runner) -> Iterator[None]:
    """Computes the attention of every second step."""
    pipe: Any = runner.pipe
    pipe.transformer.enable_cache(
        diffusers.PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2,
            spatial_attention_timestep_skip_range=(-1, 1001),
            current_timestep_callback=lambda: pipe.current_timestep,
        )
    )
    try:
        yield
    finally:
        pipe.transformer.disable_cache()


def test_a_schedule_and_a_cache_run_beside_plain(runner: Runner) -> None:
    from lockstep_methods import attention_calls, beside_plain, twin_of

    alone = runner.generate("a cat", 3).video
    twin = twin_of(runner)
    schedule = Schedule(rates={"Q": np.full((len(runner.denoiser.transformer_blocks), STEPS), 0.5)})
    for given, install in ((None, None), (schedule, None), (None, pyramid), (schedule, pyramid)):
        found = beside_plain(runner, twin, "a cat", 3, given, install)
        assert torch.equal(found.plain.video, alone)
        assert torch.equal(found.method.video, alone) == (given is None and install is None)
        assert found.estimate.steps == STEPS
        assert math.isfinite(found.estimate.log_speedup)
        left = np.array([1, 0, 1, 0]) if install is not None else np.ones(STEPS)
        assert found.attention == pytest.approx(left * (1.0 if given is None else 0.5))
    with attention_calls(twin) as shares, pyramid(twin):
        twin.generate("a cat", 3)
    assert shares == pytest.approx([1, 0, 1, 0])
    with attention_calls(twin) as shares:
        assert torch.equal(twin.generate("a cat", 3).video, alone)
    assert shares == pytest.approx([1] * STEPS)


def test_broadcasting_is_told_from_attention_that_is_reduced(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    import lockstep_methods

    blocks, seen = len(runner.denoiser.transformer_blocks), []
    monkeypatch.setattr(lockstep_methods, "estimate_pair", lambda steps: seen.append(steps) or estimate_pair(steps))
    actions = np.tile([Action.REFRESH, Action.BROADCAST], (blocks, STEPS // 2))
    actions[0] = Action.REDUCE
    rates = np.zeros((blocks, STEPS))
    rates[0] = 0.5
    schedule = Schedule(rates={"Q": rates}, actions=actions)
    twin = lockstep_methods.twin_of(runner)
    found = lockstep_methods.beside_plain(runner, twin, "a cat", 3, schedule)
    expected = np.array([1 - 0.5 / blocks, 0.5 / blocks] * (STEPS // 2))
    assert found.attention == pytest.approx(expected)
    assert seen[-1].attention == pytest.approx(expected)
    assert seen[-1].broadcast == pytest.approx(schedule.broadcast_of_steps())
    assert seen[-1].matchings == pytest.approx(schedule.matchings_of_steps())
    called = np.array([1, 1 / blocks, 0, 0])  # a cache on top skips all of the second half
    both = lockstep_methods.attention_left(schedule, called)
    assert both == pytest.approx([expected[0], expected[1], 0, 0])


def test_steps_that_a_schedules_own_cache_leaves_out_are_told_apart(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lockstep_methods

    seen: list[PairedSteps] = []
    monkeypatch.setattr(lockstep_methods, "estimate_pair", lambda steps: seen.append(steps) or estimate_pair(steps))
    left_out = np.array([False, False, True, False])
    nothing = {"Q": np.zeros((len(runner.denoiser.transformer_blocks), STEPS))}
    schedule = Schedule(rates=nothing, partner=Partner.planned(left_out))
    twin = lockstep_methods.twin_of(runner)
    lockstep_methods.beside_plain(runner, twin, "a cat", 3, schedule)
    assert seen[-1].skipped == pytest.approx(left_out.astype(float))
    assert seen[-1].attention == pytest.approx(1 - left_out)


def test_steps_that_skip_nearly_everything_are_not_disturbed(runner: Runner) -> None:
    from lockstep_methods import levels

    called = np.array([1, 1, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0.5])
    exact = np.where(called == 1, 1.04, np.where(called == 0, 0.008, 0.6))
    noise = np.array([1.01, 0.99, 1.0, 1.1, 0.9, 1.02, 1.05, 0.95, 0.98, 1.0, 1.0, 1.0])
    plain = np.linspace(1.0, 1.2, len(called))
    shape = levels(plain, plain * exact * noise, called)
    assert shape == pytest.approx(exact)
    found = estimate_shaped(plain, plain * exact * noise, shape)
    assert found.disturbed == 0
    assert found.speedup == pytest.approx(1 / exact.mean(), rel=0.01)


def test_a_typical_value_has_an_interval_from_two_values_on(runner: Runner) -> None:
    from lockstep_methods import typical, typical_text

    assert typical_text([math.log(1.25)], "{:.2f}x") == "1.25x (n = 1)"
    value, low, high = typical([math.log(1.2), math.log(1.3)])
    assert value == pytest.approx(math.sqrt(1.2 * 1.3))
    assert low is not None
    assert high is not None
    assert low * high == pytest.approx(value**2)
