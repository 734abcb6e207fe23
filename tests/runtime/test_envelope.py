"""What a schedule was made for is said where a generation is not like it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

import asymrnr
from asymrnr import OutsideEnvelope, Schedule
from tuner.models import load_pipeline

PROMPT = "a red circle moving slowly left on a plain black background"
SHIPPED = Path(__file__).parents[2] / "profiles" / "tiny-cogvideox" / "8-steps.json"


def generate(pipe: object, steps: int = 8, frames: int = 12) -> None:
    pipe(  # type: ignore[operator]
        PROMPT,
        num_frames=frames,
        height=64,
        width=64,
        num_inference_steps=steps,
        guidance_scale=1.0,
        max_sequence_length=16,
        output_type="latent",
    )


@pytest.fixture(scope="module")
def pipe() -> object:
    pipe = load_pipeline("tiny-cogvideox")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def artifact() -> asymrnr.Artifact:
    """As tuned today, when the grid is recorded."""
    found = asymrnr.load_artifact(SHIPPED)
    grid = (12, 16, 16)
    return found.model_copy(update={"workload": found.workload.model_copy(update={"grid": grid})})


def test_what_it_was_made_for_is_used_in_silence(pipe: object, artifact: asymrnr.Artifact) -> None:
    with warnings.catch_warnings(), asymrnr.apply(pipe, artifact):
        warnings.simplefilter("error", OutsideEnvelope)
        generate(pipe)


def test_other_steps_and_sizes_are_said_once(pipe: object, artifact: asymrnr.Artifact) -> None:
    handle = asymrnr.apply(pipe, artifact)
    try:
        with pytest.warns(OutsideEnvelope) as said:
            generate(pipe, steps=3, frames=8)
        with warnings.catch_warnings():
            warnings.simplefilter("error", OutsideEnvelope)
            generate(pipe, steps=3, frames=8)
    finally:
        handle.remove()
    assert [str(warning.message) for warning in said] == [
        "The schedule was made for 8 steps, but this generation has 3 and for 12x16x16 tokens (frames, rows, columns), "
        "but this generation has 8x16x16; `asymrnr-tune certify` checks it there, and `asymrnr-tune --model "
        "tiny-cogvideox` makes another."
    ]


def test_columns_that_no_step_uses_are_said(pipe: object) -> None:
    with (
        pytest.warns(OutsideEnvelope, match="made for 6 steps, but this generation has 2"),
        asymrnr.apply(pipe, Schedule({"Q": np.full((8, 6), 0.3)})),
    ):
        generate(pipe, steps=2)


def test_a_last_column_for_all_later_steps_is_nothing_to_say(pipe: object) -> None:
    with warnings.catch_warnings(), asymrnr.apply(pipe, Schedule({"Q": np.full((8, 1), 0.3)})):
        warnings.simplefilter("error", OutsideEnvelope)
        generate(pipe, steps=2)
