"""A generation of another kind than the schedule was made for is said so, once, at its first step."""

from __future__ import annotations

import warnings

import diffusers
import pytest

import asymrnr
from asymrnr import Artifact, OtherWorkload, UniformSchedule
from tests.runtime.test_pipeline import schedule
from tests.runtime.tiny import cogvideox_pipeline, generate, tiny_artifact


@pytest.fixture
def pipeline() -> diffusers.CogVideoXPipeline:
    return cogvideox_pipeline()


@pytest.fixture
def artifact() -> Artifact:
    """Not certified, for what `generate` does by default."""
    return tiny_artifact(schedule(0.5, 0.25), 13, 96, target=1.3)


def test_what_it_was_made_for_is_said_nothing_of(pipeline: diffusers.CogVideoXPipeline, artifact: Artifact) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for what in (artifact, schedule(0.5, 0.25)):
            with asymrnr.apply(pipeline, what):
                generate(pipeline)
        with asymrnr.apply(pipeline, UniformSchedule(q=0.5)):
            generate(pipeline, steps=2)


@pytest.mark.parametrize(
    ("workload", "made", "has", "command"),
    [
        ({"steps": 2}, "4 steps", "2 steps", "--steps 2"),
        ({"frames": 9}, "13 frames", "9 frames", "--frames 9"),
        ({"size": 64}, "96x96 pixels", "64x64 pixels", "--height 64 --width 64"),
        ({"steps": 3, "frames": 9}, "13 frames and 4 steps", "9 frames and 3 steps", "--frames 9 --steps 3"),
    ],
)
def test_every_number_that_differs_is_named_once(
    pipeline: diffusers.CogVideoXPipeline,
    artifact: Artifact,
    workload: dict[str, int],
    made: str,
    has: str,
    command: str,
) -> None:
    asymrnr.apply(pipeline, artifact)
    with pytest.warns(OtherWorkload) as said:
        generate(pipeline, **workload)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generate(pipeline, **workload)
    [warning] = said
    assert str(warning.message) == (
        f"The schedule was made for {made}, but this generation has {has}, for which nothing is promised; "
        f"`asymrnr-tune --model tiny {command} --target-speedup 1.3` tunes one."
    )


def test_of_a_schedule_by_itself_the_steps_are_known(pipeline: diffusers.CogVideoXPipeline) -> None:
    asymrnr.apply(pipeline, schedule(0.5, 0.25))
    with pytest.warns(OtherWorkload, match="made for 4 steps, but this generation has 2 steps"):
        generate(pipeline, steps=2, frames=9)


def test_it_is_said_before_anything_is_computed(pipeline: diffusers.CogVideoXPipeline, artifact: Artifact) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherWorkload)
        handle = asymrnr.apply(pipeline, artifact)
        with pytest.raises(OtherWorkload):
            generate(pipeline, steps=2)
    assert handle.summary().calls == 0
