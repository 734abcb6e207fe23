"""Pipelines that do not say which guidance branch a call belongs to: told apart all the same, or refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import imageio.v3 as iio
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

import asymrnr
from asymrnr import InterceptionError, Schedule
from asymrnr.tracker import StepTracker
from tests.pipelines.tiny_pipelines import TEXT_WIDTH, build, ready, tiny_entry
from tests.pipelines.unregistered import hunyuanvideo_image
from tuner.run.runner import Runner
from tuner.run.twin import twin_pipeline

STEPS = 4
ACTIONS = np.array([[1, 2, 3, 2], [1, 3, 2, 2]])


def schedule() -> Schedule:
    """With memory, which must not come from the other branch."""
    return Schedule({"Q": np.where(ACTIONS == 2, 0.5, 0.0)}, actions=ACTIONS)


def video_to_video(tmp_path: Path) -> tuple[DiffusionPipeline, Callable[[DiffusionPipeline], Any]]:
    frames = np.random.default_rng(0).integers(0, 255, (9, 64, 64, 3), dtype=np.uint8)
    iio.imwrite(tmp_path / "start.mp4", frames, plugin="FFMPEG", fps=8)
    entry = tiny_entry("wan-1.3b-v2v", STEPS).with_files({"a cat": tmp_path / "start.mp4"})
    return build(entry.name), lambda pipe: Runner(pipe, entry).generate("a cat", 0).latents


def image_to_video(_: Path) -> tuple[DiffusionPipeline, Callable[[DiffusionPipeline], Any]]:
    rng = torch.Generator().manual_seed(0)
    text = {
        f"{negative}{name}": value
        for negative in ("", "negative_")
        for name, value in {
            "prompt_embeds": torch.randn(1, 6, TEXT_WIDTH, generator=rng),
            "pooled_prompt_embeds": torch.randn(1, TEXT_WIDTH, generator=rng),
            "prompt_attention_mask": torch.ones(1, 6, dtype=torch.long),
        }.items()
    }

    def generate(pipe: DiffusionPipeline) -> Any:
        return pipe(
            image=Image.new("RGB", (64, 64), "red"),
            **text,
            height=64,
            width=64,
            num_frames=9,
            num_inference_steps=STEPS,
            true_cfg_scale=3.0,
            generator=torch.Generator().manual_seed(0),
            output_type="latent",
        ).frames

    return ready(hunyuanvideo_image), generate


@pytest.mark.parametrize("case", [video_to_video, image_to_video], ids=lambda case: case.__name__)
def test_each_branch_computes_as_if_it_were_alone(case: Any, tmp_path: Path) -> None:
    pipe, generate = case(tmp_path)
    assert "cache_context" not in Path(diffusers.__file__).parent.joinpath(_source(pipe)).read_text()
    alone = twin_pipeline(pipe).transformer
    calls: list[tuple[dict[str, Any], torch.Tensor]] = []

    def remember(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        assert not args
        calls.append((copy.deepcopy(kwargs), output[0].clone()))

    hook = pipe.transformer.register_forward_hook(remember, with_kwargs=True)
    with asymrnr.apply(pipe, schedule()) as handle, torch.inference_mode():
        generate(pipe)
        summary = handle.summary()
    hook.remove()
    assert len(calls) == 2 * STEPS
    for action in (1, 2, 3):
        assert np.array_equal(summary.done[action], 2 * (action == ACTIONS))
    for branch in (0, 1):
        with asymrnr.apply(alone, schedule()) as handle, torch.inference_mode():
            for inputs, output in calls[branch::2]:
                assert torch.equal(alone(**inputs)[0], output)
    with torch.inference_mode():
        plain = alone(**calls[-1][0])[0]
    assert not torch.equal(plain, calls[-1][1])  # so that equality says something


def _source(pipe: DiffusionPipeline) -> str:
    return type(pipe).__module__.removeprefix("diffusers.").replace(".", "/") + ".py"


@pytest.mark.parametrize(
    "name",
    [
        "HunyuanVideoFramepackTransformer3DModel",
        "Kandinsky5Transformer3DModel",
        "CosmosTransformer3DModel",
    ],
)
def test_denoisers_that_are_not_known_are_refused_with_a_reason(name: str) -> None:
    cls = getattr(diffusers, name)
    model = cls.__new__(cls)
    torch.nn.Module.__init__(model)
    with pytest.raises(InterceptionError, match=rf"^{name} is not a known denoiser \(known: .*register_adapter"):
        asymrnr.apply(model, schedule())


def test_the_samplers_step_ends_a_step_whose_timestep_comes_again() -> None:
    """Samplers of second order compute twice at a timestep; without it two branches would be four."""
    tracker, seen = StepTracker(), []
    for timestep in (900.0, 900.0, 500.0, 500.0):
        for _ in range(2):
            tracker.observe(timestep)
            seen.append((tracker.step, tracker.branch))
        tracker.end_step()
    assert seen == [(step, f"call{call}") for step in range(4) for call in range(2)]


def test_copies_of_the_sampler_are_left_alone(tmp_path: Path) -> None:
    pipe, _ = video_to_video(tmp_path)
    with asymrnr.apply(pipe, schedule()):
        other = copy.deepcopy(pipe.scheduler)
        other.set_timesteps(3)
        pipe.scheduler.set_timesteps(5)
        assert (len(other.timesteps), len(pipe.scheduler.timesteps)) == (3, 5)
        asymrnr.remove(pipe)
    assert not {"set_timesteps", "step"} & vars(pipe.scheduler).keys()
