"""Memory and broadcasting in complete generations: what ends with them, and what `verify` says."""

from __future__ import annotations

import diffusers
import numpy as np
import pytest
import torch

import asymrnr
from asymrnr import Action, Schedule, ScheduleError
from tests.runtime.test_memory import schedule
from tests.runtime.tiny import cogvideox_pipeline, generate


@pytest.fixture
def pipeline() -> diffusers.CogVideoXPipeline:
    return cogvideox_pipeline()


def test_generations_equal_fresh_ones_and_end_with_nothing_held(pipeline: diffusers.CogVideoXPipeline) -> None:
    baseline = generate(pipeline)
    plan = schedule(2, [1, 2, 3, 2], v=0.3)
    workloads = [{"steps": 4}, {"steps": 6, "size": 64, "frames": 9}, {"steps": 2}, {"steps": 4}]
    fresh = []
    for workload in workloads:
        with asymrnr.apply(pipeline, plan):
            fresh.append(generate(pipeline, **workload))
    with asymrnr.apply(pipeline, plan) as handle:
        for workload, want in zip(workloads, fresh, strict=True):
            assert torch.equal(generate(pipeline, **workload), want)
            handle.verify()
            assert handle._engine.memory.held() == 0  # type: ignore[union-attr]  # the decoder has the space
            assert handle.summary().memory_bytes > 0
    assert not torch.equal(fresh[0], baseline)
    assert torch.equal(generate(pipeline), baseline)


def test_an_interrupted_generation_leaves_no_memory(pipeline: diffusers.CogVideoXPipeline) -> None:
    with asymrnr.apply(pipeline, schedule(2, [1, 2, 3, 2])) as handle:
        want = generate(pipeline)
        block = pipeline.transformer.transformer_blocks[1]
        calls = []

        def stop(*_: object) -> None:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt

        with block.register_forward_pre_hook(stop), pytest.raises(KeyboardInterrupt):
            generate(pipeline)
        assert handle._engine.memory.held() > 0  # type: ignore[union-attr]
        assert torch.equal(generate(pipeline), want)


def test_columns_left_out_take_their_refresh_along(pipeline: diffusers.CogVideoXPipeline) -> None:
    """Half as many steps as the schedule has columns see every second one, twice as many see all of them twice."""
    pipeline.scheduler.set_timesteps(8)
    times = tuple(float(t) for t in pipeline.scheduler.timesteps)
    with asymrnr.apply(pipeline, schedule(2, [1, 2, 2, 2, 1, 2, 1, 3], timesteps=times)) as handle:
        generate(pipeline, steps=4)
        done = handle.summary().done
        assert done[Action.REFRESH].tolist() == [[0, 1, 0, 0, 0, 1, 0, 1]] * 2
        assert done[Action.MEMORY].tolist() == [[0, 0, 0, 1, 0, 0, 0, 0]] * 2
        assert not done[Action.BROADCAST].any()
        generate(pipeline, steps=16)
        summary = handle.summary()
        assert sum(done.sum() for done in summary.done.values()) == 2 * 16
        for action, done_16 in summary.done.items():
            assert np.array_equal(done_16, summary.planned_actions[action])
    with (
        pytest.raises(ScheduleError, match="reduces nothing"),
        asymrnr.apply(pipeline, schedule(2, [1, 2, 2, 2, 1, 2, 1, 3], timesteps=times)),
    ):
        generate(pipeline, steps=3)


def test_memory_that_is_not_used_is_an_error(pipeline: diffusers.CogVideoXPipeline) -> None:
    for actions, words in (([1, 2, 2, 2], "Q was reduced at 0 of the 6"), ([1, 3, 3, 3], "Broadcast at 0 of the 6")):
        handle = asymrnr.apply(pipeline, schedule(2, actions))
        assert handle._engine.memory is not None
        handle._engine.memory.recall = lambda *_: None  # type: ignore[method-assign]
        generate(pipeline)
        with pytest.raises(ScheduleError, match=words):
            handle.verify()
        assert handle.summary().done[Action.REFRESH].sum() == 8
        handle.remove()
    late = np.zeros((2, 9), dtype=int)
    late[:, 7:] = 1, 3
    unused = Schedule(rates={"Q": np.zeros((2, 9))}, actions=late)
    with pytest.raises(ScheduleError, match="reduces nothing"), asymrnr.apply(pipeline, unused):
        generate(pipeline)
