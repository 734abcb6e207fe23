"""`asymrnr-tune generate`: one video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tuner.commands.options import (
    Backend,
    Device,
    Frames,
    Height,
    Loras,
    Model,
    Offload,
    OffloadChoice,
    Quantize,
    Seed,
    Steps,
    Weights,
    Width,
    load_options,
    speedup_from,
    workload_options,
)
from tuner.commands.validation import require_writable
from tuner.errors import UsageError

if TYPE_CHECKING:
    from tuner.models import ModelEntry


def generate(
    model: Model,
    prompt: Annotated[str, typer.Option("--prompt", help="What the video should show.")],
    image: Annotated[
        Path | None, typer.Option("--image", help="Picture to start from, for models that do.", show_default="none")
    ] = None,
    video: Annotated[
        Path | None, typer.Option("--video", help="Video to start from, for models that do.", show_default="none")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write, .mp4.")] = Path("out.mp4"),
    schedule: Annotated[
        str | None, typer.Option("--schedule", help="Artifact file, or a shipped profile such as 30-steps.")
    ] = None,
    speedup: Annotated[
        float | None,
        typer.Option(
            parser=speedup_from,
            metavar="X",
            help="Which of the artifact's schedules: for at least this.",
            show_default="what it was tuned for",
        ),
    ] = None,
    seed: Seed = 0,
    steps: Steps = None,
    frames: Frames = None,
    height: Height = None,
    width: Width = None,
    device: Device = "cpu",
    weights: Weights = None,
    offload: Offload = OffloadChoice.NONE,
    attention_backend: Backend = None,
    lora: Loras = None,
    quantize: Quantize = None,
) -> None:
    """Generate one video, accelerated when a schedule is given, and write it as mp4.

    Steps and size are the model's own, or those the schedule was made for.
    """
    require_writable(output, ".mp4")
    if not prompt.strip():
        raise UsageError("The prompt is empty; say what the video should show.")
    from tuner.context import describe
    from tuner.models import find_model, load_pipeline
    from tuner.models.images import hashes
    from tuner.package import read_artifact, workload_for
    from tuner.report.console import LiveProgress
    from tuner.report.speeds import promise
    from tuner.report.video import write_mp4
    from tuner.run.runner import Runner

    if schedule is None and speedup is not None:
        raise UsageError("--speedup picks one of an artifact's schedules; give --schedule, too.")
    artifact = None if schedule is None else read_artifact(schedule, model, speedup)
    workload = workload_options(steps, frames, height, width)
    if artifact is not None:
        workload = workload_for(artifact, model, workload)
    options = load_options(weights, offload, attention_backend, lora, quantize)
    entry = workload.of(with_file(find_model(model), prompt, image, video))
    if entry.starts_from is not None:  # refuses what cannot be read before anything is loaded
        hashes(entry.files, entry.starts_from, entry.workload.frames)
    steps = entry.workload.steps
    with LiveProgress() as progress:
        progress.stage("load", model)
        runner = Runner(load_pipeline(model, device, options), entry)
        progress.stage("generate", str(entry.workload))

        def on_step(done: int) -> None:
            progress.advance(done, steps, f"step {done} of {steps}")

        generation = runner.generate(prompt, seed, artifact, on_step=on_step)
    write_mp4(generation.video, output, entry.fps)
    console, per_step = Console(), generation.step_seconds.mean()
    lines = [f"{output}: {generation.seconds:.1f} s, {per_step:.3g} s per denoising step"]
    if artifact is not None:
        lines += [f"with {describe(artifact.schedule_object())} ({generation.summary})", promise(artifact)]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=not console.is_terminal)


def with_file(entry: ModelEntry, prompt: str, image: Path | None, video: Path | None) -> ModelEntry:
    """The model with the picture or video that a prompt's video starts from.

    Raises:
        UsageError: there is none where it needs one, or one where it takes none.
    """
    given = {"picture": image, "video": video}
    options = {"picture": "--image", "video": "--video"}
    for kind, path in given.items():
        if path is not None and entry.starts_from != kind:
            raise UsageError(f"{entry.name} does not start from a {kind}; leave {options[kind]} out.")
    if entry.starts_from is None:
        return entry
    file = given[entry.starts_from]
    if file is None:
        raise UsageError(f"{entry.name} starts from a {entry.starts_from}; give it as {options[entry.starts_from]}.")
    return entry.with_files({prompt: file})
