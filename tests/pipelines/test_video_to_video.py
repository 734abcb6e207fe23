"""Models that start from a video: where videos come from, what is refused, how many steps are left of the sampler's."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.pipelines.tiny_pipelines import START_FROM_VIDEOS, build, tiny_entry
from tuner.cli import app
from tuner.errors import UsageError
from tuner.models import Workload, WorkloadOptions
from tuner.models.images import hashes
from tuner.models.prompts import LEAST_HELD_OUT, TUNED_ON
from tuner.models.videos import open_video
from tuner.run.identity import subject
from tuner.run.runner import Runner

MODEL = "wan-1.3b-v2v"
COUNT = TUNED_ON + LEAST_HELD_OUT


def film(path: Path, frames: int = 9, seed: int = 0) -> Path:
    content = np.random.default_rng(seed).integers(0, 255, (frames, 64, 64, 3), dtype=np.uint8)
    if path.suffix == ".mp4":
        iio.imwrite(path, content, plugin="FFMPEG", fps=8)
    else:
        iio.imwrite(path, content)
    return path


@pytest.fixture
def options(tmp_path: Path) -> WorkloadOptions:
    for number in range(COUNT):
        film(tmp_path / f"{number}.mp4", seed=number)
    lines = tuple(f"{number}.mp4 | animal number {number}" for number in range(COUNT))
    return WorkloadOptions(prompts=lines, folder=str(tmp_path))


@pytest.mark.parametrize("strength", [0.05, 0.3, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("steps", [1, 4, 30, 40])
def test_so_many_steps_are_left(steps: int, strength: float) -> None:
    asked = Workload(9, 64, 64, steps, 5.0, 16, strength).call_kwargs()
    total = asked["num_inference_steps"]
    assert min(int(total * strength), total) == steps  # as diffusers' pipelines compute it
    assert asked["strength"] == strength
    assert "strength" not in Workload(9, 64, 64, steps, 5.0, 16).call_kwargs()


@pytest.mark.parametrize("name", START_FROM_VIDEOS)
def test_the_video_is_what_is_started_from(name: str, options: WorkloadOptions, tmp_path: Path) -> None:
    runner = Runner(build(name), options.of(tiny_entry(name, 4)))
    prompt = "animal number 0"
    first = runner.generate(prompt, 0)
    assert first.video.shape[0] == runner.entry.workload.frames
    assert first.step_seconds.shape == (4,)
    assert torch.equal(runner.generate(prompt, 0).latents, first.latents)
    identity = subject(runner)
    assert identity["workload"]["strength"] == 0.8
    film(tmp_path / "0.mp4", seed=1)
    assert not torch.equal(runner.generate(prompt, 0).latents, first.latents)
    assert subject(runner)["videos"][prompt] != identity["videos"][prompt]
    with pytest.raises(UsageError, match="starts from videos, and there is none for 'a dog'"):
        runner.generate("a dog", 0)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_the_first_frames_are_taken(suffix: str, tmp_path: Path) -> None:
    path = film(tmp_path / f"x{suffix}", frames=12)
    assert [frame.size for frame in open_video(path, 9)] == [(64, 64)] * 9
    with pytest.raises(UsageError, match=r"has 12 frames, but 13 are needed; give a longer one"):
        open_video(path, 13)


@pytest.mark.parametrize("content", [None, b"", b"no video"])
def test_what_is_no_video_is_refused_before_anything_is_loaded(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"x\.mp4 (cannot be read|is no video)") as caught:
        hashes({"a cat": path}, "video", 9)
    assert "\n" not in str(caught.value)


def test_what_does_not_say_so_is_refused() -> None:
    with pytest.raises(UsageError, match=r"starts from videos; give them and prompts with --prompts, VIDEO \| PROMPT"):
        WorkloadOptions().of(tiny_entry(MODEL))
    with pytest.raises(UsageError, match=r"says 'a cat', but the model starts from videos; write VIDEO \| PROMPT"):
        WorkloadOptions(prompts=("a cat",)).of(tiny_entry(MODEL))


def test_generate_takes_a_video(tmp_path: Path) -> None:
    for model, given, says in (
        (MODEL, [], "starts from a video; give it as --video"),
        (MODEL, ["--video", str(tmp_path / "none.mp4")], "none.mp4 cannot be read"),
        (MODEL, ["--image", "x.png"], "does not start from a picture; leave --image out"),
        ("mochi", ["--video", "x.mp4"], "does not start from a video; leave --video out"),
    ):
        done = CliRunner().invoke(
            app, ["generate", "--model", model, "--prompt", "a cat", "-o", str(tmp_path / "x.mp4"), *given]
        )
        assert isinstance(done.exception, UsageError)
        assert says in str(done.exception)
