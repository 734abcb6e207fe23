"""The commands that do one part of the job: generate a video, write a profile."""

from __future__ import annotations

from pathlib import Path

from asymrnr.artifact_io import load_artifact
from asymrnr.schedule import Schedule
from asymrnr.shipped import load
from tuner.errors import UsageError
from tuner.job.context import Progress, describe
from tuner.job.profiling import settings_for
from tuner.job.timing import time_model
from tuner.job.workload import describe_workload
from tuner.models import LoadOptions, find_model, load_pipeline
from tuner.profile.profiler import Profiler
from tuner.report.plots import profile_figures, save_figures
from tuner.report.video import write_mp4
from tuner.runner import Runner
from tuner.search.space import load_space


def require_writable(path: Path, suffix: str) -> None:
    """Check an output file before any work goes into it.

    Raises:
        UsageError: wrong suffix, or the folder cannot be written.
    """
    if path.suffix != suffix:
        raise UsageError(f"The output {path} must end in {suffix}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
        if path.stat().st_size == 0:
            path.unlink()
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}.") from None


def find_schedule(model: str, schedule: str | None) -> Schedule | None:
    """The schedule of an artifact file or of a shipped target; None stays None.

    Raises:
        ArtifactError: there is none, or it is damaged.
    """
    if schedule is None:
        return None
    if schedule.endswith(".json"):
        return load_artifact(Path(schedule)).schedule_object()
    return load(model, schedule)


def generate_to(
    model: str, prompt: str, output: Path, schedule: str | None, seed: int, device: str, options: LoadOptions
) -> str:
    """Generate one video and write it as mp4; returns what was done, in a sentence."""
    entry = find_model(model)
    require_writable(output, ".mp4")
    found = find_schedule(model, schedule)
    runner = Runner(load_pipeline(model, device, options), entry)
    generation = runner.generate(prompt, seed, found)
    write_mp4(generation.video, output, entry.fps)
    how = "without a schedule" if found is None else f"with {describe(found)} ({generation.summary})"
    return f"{output}: {generation.seconds:.1f} s {how}"


def profile_to(model: str, output: Path, seed: int, device: str, options: LoadOptions, progress: Progress) -> Path:
    """Profile one generation, write the profile and its figures; returns the figures' folder."""
    from asymrnr.resources import search_spaces_folder

    entry = find_model(model)
    require_writable(output, ".safetensors")
    space = load_space(search_spaces_folder() / entry.search_space)
    progress.stage("load", model)
    runner = Runner(load_pipeline(model, device, options), entry)
    prompt = entry.tuning_prompts(1)[0]
    progress.stage("time", "steps, attention, matching and gathering")
    timed = time_model(runner, prompt, space.strides)
    progress.stage("profile", "one observed generation")
    profiler = Profiler(settings_for(space, entry.workload.steps, seed), progress=progress.advance)
    runner.generate(prompt, seed, observer=profiler)
    profile = profiler.finish(
        model=entry.name,
        workload=describe_workload(runner),
        prompt=prompt,
        generation_seed=seed,
        latency=timed.surface,
        rest_seconds=timed.rest_seconds,
        transformer=type(runner.denoiser).__name__,
    )
    profile.save(output)
    folder = output.with_name(output.stem + "-figures")
    save_figures(profile_figures(profile), folder)
    return folder
