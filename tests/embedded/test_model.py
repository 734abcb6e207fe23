"""The packaged model is real: it shows what the caption says, and the shipped schedule accelerates it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

import asymrnr
from asymrnr import Action
from asymrnr.shipped import NotCertified, load_shipped
from tests.pipelines.helpers import left_as_found
from tuner.embedded.world import is_held_out, parse_caption
from tuner.models import REGISTRY, load_pipeline
from tuner.quality.metrics import psnr
from tuner.run.runner import Runner

ENTRY = REGISTRY["tiny-cogvideox"]
MAX_BYTES = 10_000_000


@pytest.fixture(scope="module")
def runner() -> Runner:
    return Runner(load_pipeline("tiny-cogvideox"), ENTRY)


@pytest.fixture(autouse=True)
def _shared_runner(runner: Runner) -> Iterator[None]:
    with left_as_found(runner.pipe):
        yield


def test_it_is_small_and_of_the_real_classes(runner: Runner) -> None:
    folder = ENTRY.weights.folder
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < MAX_BYTES
    index = json.loads((folder / "model_index.json").read_text())
    assert index["transformer"] == ["diffusers", "CogVideoXTransformer3DModel"]
    assert index["text_encoder"] == ["transformers", "T5EncoderModel"]
    config = runner.denoiser.config
    assert config.use_rotary_positional_embeddings
    tokens = ENTRY.workload.frames * (config.sample_height // 2) * (config.sample_width // 2)
    assert tokens >= 3000


def test_held_out_prompts_were_never_trained_on() -> None:
    assert all(is_held_out(parse_caption(prompt)) for prompt in ENTRY.held_out_prompts(48))
    assert not any(is_held_out(parse_caption(prompt)) for prompt in ENTRY.tuning_prompts(8))


@pytest.mark.parametrize(
    ("profile", "certified"),
    [
        ("30-steps", [1.2, 1.35, 1.8]),
        ("30-steps-with-cache", [1.35, 1.8, 2.5]),
        ("8-steps", [1.2, 1.3]),
        ("8-steps-with-cache", [1.3, 1.5]),
    ],
)
def test_shipped_schedules_are_certified(profile: str, certified: list[float]) -> None:
    artifact = load_shipped("tiny-cogvideox", profile)
    assert artifact.certified
    points = artifact.points()
    assert [point.target for point in points if point.proven] == certified
    assert points[-1].target == certified[-1]  # nothing is predicted beyond what was measured
    for target in certified:
        evidence = artifact.at(target).evidence
        assert evidence is not None
        assert evidence.speedup.lower_bound_95 is not None
        assert evidence.speedup.lower_bound_95 >= target
    with pytest.warns(NotCertified, match="--target-speedup 1.1"):
        assert asymrnr.load("tiny-cogvideox", profile, speedup=1.05).blocks == artifact.model.blocks


def test_the_shipped_schedule_accelerates_a_held_out_prompt(runner: Runner) -> None:
    schedule = asymrnr.load("tiny-cogvideox")
    prompt = ENTRY.held_out_prompts(4)[-1]
    plain, tuned = runner.generate(prompt, 77), runner.generate(prompt, 77, schedule)
    assert ENTRY.attributes is not None
    assert tuned.summary is not None
    for action, planned in tuned.summary.planned_actions.items():
        assert np.array_equal(tuned.summary.done[action], planned)
    assert tuned.summary.done[Action.MEMORY].any()
    assert psnr(tuned.video, plain.video) > 40
    shown = ENTRY.attributes(plain.video, prompt)
    assert shown["color"]
    assert shown["direction"]
    assert ENTRY.attributes(tuned.video, prompt) == shown
