"""Models that continue a picture: where pictures come from, what is refused, and the way from preflight to pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from asymrnr import Action, Schedule
from tests.pipelines.tiny_pipelines import START_FROM_PICTURES, build, tiny_entry
from tuner.cli import app
from tuner.context import TuneOptions
from tuner.errors import UsageError
from tuner.latency import micro
from tuner.latency.model import Coefficients
from tuner.models import ModelEntry, WorkloadOptions
from tuner.models.images import open_image
from tuner.models.prompts import LEAST_HELD_OUT, TUNED_ON, read_prompts
from tuner.opening import open_run, open_scratch
from tuner.report.console import LiveProgress
from tuner.run.identity import subject
from tuner.run.runner import Runner
from tuner.search.study import search
from tuner.stages.certify import certify
from tuner.stages.noise_floor import measure_noise_floor
from tuner.stages.preflight import measure_latency
from tuner.stages.profile import profile_model

MODEL = "cogvideox-5b-i2v"
COUNT = TUNED_ON + LEAST_HELD_OUT


@pytest.fixture
def options(tmp_path: Path) -> WorkloadOptions:
    """A file of prompts with a picture each, beside it."""
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    lines = [f"{i}.png | animal number {i}" for i in range(COUNT)]
    (tmp_path / "prompts.txt").write_text("\n".join(["# mine", *lines]))
    return WorkloadOptions(prompts=read_prompts(tmp_path / "prompts.txt"), folder=str(tmp_path))


def tiny(name: str, options: WorkloadOptions) -> ModelEntry:
    """Its workload fits, its prompts are the user's."""
    return replace(options.of(replace(tiny_entry(name), sizes=tiny_entry("mochi").sizes)), sizes=tiny_entry(name).sizes)


def test_every_prompt_has_its_picture(options: WorkloadOptions, tmp_path: Path) -> None:
    entry = options.of(tiny_entry(MODEL))
    assert entry.images == {f"animal number {i}": tmp_path / f"{i}.png" for i in range(COUNT)}
    assert entry.tuning_prompts(TUNED_ON) == [f"animal number {i}" for i in range(TUNED_ON)]
    assert len(entry.held_out_prompts(9)) == LEAST_HELD_OUT
    assert WorkloadOptions.from_dict(options.to_dict()).of(tiny_entry(MODEL)).images == entry.images


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (None, r"starts from pictures; give them and prompts with --prompts, IMAGE \| PROMPT a line"),
        (("a cat",), r"says 'a cat', but the model starts from pictures; write IMAGE \| PROMPT"),
        (("x.png |",), r"write IMAGE \| PROMPT"),
        (("| a cat",), r"write IMAGE \| PROMPT"),
        (("x.png | a cat", "y.png | a cat"), "gives 'a cat' two pictures"),
        (("x.png | a cat", "x.png | a cat"), "gives 1 different prompts"),
    ],
)
def test_what_does_not_say_so_is_refused(lines: tuple[str, ...] | None, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        WorkloadOptions(prompts=lines).of(tiny_entry(MODEL))


def test_models_that_start_from_noise_take_such_lines_as_they_are() -> None:
    lines = tuple(f"a cat | number {i}" for i in range(COUNT))
    entry = WorkloadOptions(prompts=lines).of(tiny_entry("mochi"))
    assert entry.images is None
    assert entry.tuning_prompts(1) == ["a cat | number 0"]


@pytest.mark.parametrize("content", [None, b"", b"no picture"])
def test_pictures_are_looked_at_before_anything_is_loaded(
    options: WorkloadOptions, tmp_path: Path, content: bytes | None
) -> None:
    (tmp_path / "2.png").unlink()
    if content is not None:
        (tmp_path / "2.png").write_bytes(content)
    run = TuneOptions(MODEL, 1.1, tmp_path / "run", workload=options)
    with (
        LiveProgress() as progress,
        pytest.raises(UsageError, match=r"2\.png (cannot be read|is no picture)") as caught,
    ):
        open_run(run, progress)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_photographs_are_turned_as_their_camera_says(tmp_path: Path) -> None:
    image = Image.new("RGB", (30, 20), "red")
    exif = image.getexif()
    exif[274] = 6  # orientation: a quarter turn
    image.save(tmp_path / "photo.jpg", exif=exif)
    assert open_image(tmp_path / "photo.jpg").size == (20, 30)


@pytest.mark.parametrize("name", START_FROM_PICTURES)
def test_the_picture_is_what_the_video_starts_from(name: str, options: WorkloadOptions, tmp_path: Path) -> None:
    runner = Runner(build(name), tiny(name, options))
    first, prompt = runner.generate("animal number 0", 0), "animal number 0"
    assert first.video.shape[0] == runner.entry.workload.frames
    assert torch.equal(runner.generate(prompt, 0).latents, first.latents)
    identity = subject(runner)
    (tmp_path / "0.png").write_bytes((tmp_path / "1.png").read_bytes())
    assert not torch.equal(runner.generate(prompt, 0).latents, first.latents)
    assert subject(runner) != identity
    assert subject(runner)["images"][prompt] == identity["images"]["animal number 1"]
    with pytest.raises(UsageError, match="starts from pictures, and there is none for 'a dog'"):
        runner.generate("a dog", 0)


@pytest.mark.parametrize("name", START_FROM_PICTURES)
def test_sites_are_reduced_restored_with_memory_and_broadcast(name: str, options: WorkloadOptions) -> None:
    runner = Runner(build(name), tiny(name, options))
    actions = np.array([[1, 2, 3], [1, 3, 2]])
    schedule = Schedule({"Q": np.where(actions == 2, 0.5, 0.0)}, actions=actions)
    found = runner.generate("animal number 0", 0, schedule)
    assert found.summary is not None
    for action in (Action.REFRESH, Action.MEMORY, Action.BROADCAST):  # Wan counts both guidance branches
        assert np.array_equal(found.summary.done[action] > 0, actions == action)
    assert torch.isfinite(found.latents).all()


@pytest.mark.parametrize("name", START_FROM_PICTURES)
def test_every_stage_takes_them(name: str, options: WorkloadOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro, "SURFACE_SECONDS", 0.0)
    with open_scratch(Runner(build(name), tiny(name, options))) as ctx:
        ctx.ledger.budget_ie = 1e6
        measured = measure_latency(ctx)
        profiled = profile_model(ctx, measured)
        cheap = Coefficients(gathering=0.0, matching=0.0, projection=0.0)
        model = replace(measured, step_seconds=1.2 * measured.sites.full_seconds, coefficients=cheap)
        found = search(profiled.profile, model, ctx.space, 1.2, trials=6).candidates[0]
        certification = certify(ctx, found.schedule, found.predicted_speedup, measure_noise_floor(ctx))
        seen = [pair.prompt for pair in certification.pairs]
        assert seen == [f"animal number {i}" for i in range(TUNED_ON, TUNED_ON + len(seen))]
        assert seen


def test_generate_takes_a_picture(tmp_path: Path) -> None:
    for model, given, says in (
        (MODEL, [], "starts from a picture; give it as --image"),
        (MODEL, ["--image", str(tmp_path / "none.png")], "none.png cannot be read"),
        ("mochi", ["--image", "x.png"], "does not start from a picture; leave --image out"),
    ):
        done = CliRunner().invoke(
            app, ["generate", "--model", model, "--prompt", "a cat", "-o", str(tmp_path / "x.mp4"), *given]
        )
        assert isinstance(done.exception, UsageError)
        assert says in str(done.exception)
