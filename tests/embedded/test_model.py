"""The packaged models are real: they show what the caption says, and the shipped schedules accelerate them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import asymrnr
from asymrnr import Action
from asymrnr.shipped import NotCertified, load_shipped
from tuner.embedded.entries import ENTRIES
from tuner.embedded.models import MODELS
from tuner.models import REGISTRY, load_pipeline
from tuner.quality.metrics import psnr
from tuner.run.runner import Runner

MAX_BYTES = 10_000_000
# Transformers and text encoders, and the targets that each shipped profile holds certified schedules for.
PARTS = {
    "tiny-cogvideox": ("CogVideoXTransformer3DModel", "T5EncoderModel"),
    "tiny-wan": ("WanTransformer3DModel", "UMT5EncoderModel"),
    "tiny-mochi": ("MochiTransformer3DModel", "T5EncoderModel"),
    "tiny-hunyuanvideo": ("HunyuanVideoTransformer3DModel", "LlamaModel"),
    "tiny-hunyuanvideo-scenes": ("HunyuanVideoTransformer3DModel", "LlamaModel"),
}
SHIPPED = {
    ("tiny-cogvideox", "30-steps"): [1.2, 1.35, 1.8],
    ("tiny-cogvideox", "30-steps-with-cache"): [1.35, 1.8, 2.5],
    ("tiny-cogvideox", "8-steps"): [1.2, 1.3],
    ("tiny-cogvideox", "8-steps-with-cache"): [1.3, 1.5],
    ("tiny-wan", "20-steps"): [1.3, 1.5],
    ("tiny-wan", "20-steps-with-cache"): [1.3, 1.8],
    ("tiny-mochi", "20-steps"): [1.15, 1.3],
    ("tiny-mochi", "20-steps-with-cache"): [1.3],
    ("tiny-hunyuanvideo", "20-steps"): [1.3, 1.5],
    ("tiny-hunyuanvideo", "20-steps-with-cache"): [1.3, 1.8],
    ("tiny-hunyuanvideo", "8-steps"): [1.15],
    ("tiny-hunyuanvideo-scenes", "16-steps-with-cache"): [1.3],
}
# PSNR that any prompt reaches, of the models with a schedule for their own steps. The backgrounds of three shift
# more easily; certificates say 38 to 51 dB in the mean.
DECIBELS = {"tiny-cogvideox": 40, "tiny-wan": 25, "tiny-mochi": 25, "tiny-hunyuanvideo": 25}
every_model = pytest.mark.parametrize("name", [entry.name for entry in ENTRIES])


@every_model
def test_it_is_small_and_of_the_real_classes(name: str) -> None:
    entry, (transformer, text_encoder) = REGISTRY[name], PARTS[name]
    folder = entry.weights.folder
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < MAX_BYTES
    index = json.loads((folder / "model_index.json").read_text())
    assert index["_class_name"] == entry.pipeline.__name__
    assert index["transformer"] == ["diffusers", transformer]
    assert index["text_encoder"] == ["transformers", text_encoder]
    grid = entry.sizes.grid(entry.workload)
    assert grid is not None
    assert math.prod(grid) >= 3000


@every_model
def test_held_out_prompts_were_never_trained_on(name: str) -> None:
    entry, world = REGISTRY[name], MODELS[name].world
    assert all(world.is_held_out(world.parse(prompt)) for prompt in entry.held_out_prompts(48))
    assert not any(world.is_held_out(world.parse(prompt)) for prompt in entry.tuning_prompts(8))


@pytest.mark.parametrize(("name", "profile"), SHIPPED)
def test_shipped_schedules_are_certified(name: str, profile: str) -> None:
    artifact, certified = load_shipped(name, profile), SHIPPED[name, profile]
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
        assert asymrnr.load(name, profile, speedup=1.05).blocks == artifact.model.blocks


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "tiny-cogvideox" else pytest.mark.slow) for name in DECIBELS]
)
def test_the_shipped_schedule_accelerates_a_held_out_prompt(name: str) -> None:
    entry, schedule = REGISTRY[name], asymrnr.load(name)
    runner = Runner(load_pipeline(name), entry)
    prompt = entry.held_out_prompts(4)[-1]
    plain, tuned = runner.generate(prompt, 77), runner.generate(prompt, 77, schedule)
    assert entry.attributes is not None
    assert tuned.summary is not None
    for action, planned in tuned.summary.planned_actions.items():
        assert np.array_equal(tuned.summary.done[action], planned)
    assert tuned.summary.done[Action.MEMORY].any()
    assert psnr(tuned.video, plain.video) > DECIBELS[name]
    shown = entry.attributes(plain.video, prompt)
    assert shown["color"]
    assert shown["direction"]
    assert entry.attributes(tuned.video, prompt) == shown
