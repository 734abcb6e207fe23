"""The commands that do one part of the job: generate a video, write a profile."""

from __future__ import annotations

from pathlib import Path

from asymrnr.resources import search_spaces_folder
from tuner.errors import UsageError
from tuner.latency.micro import time_model
from tuner.models import LoadOptions, find_model, load_pipeline
from tuner.package import read_artifact
from tuner.profile.stage import observe_generation, settings_for
from tuner.report.plots import save_figures
from tuner.report.profile_plots import profile_figures
from tuner.report.video import write_mp4
from tuner.run.context import Progress, describe
from tuner.run.runner import Runner
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


def generate_to(
    model: str, prompt: str, output: Path, schedule: str | None, seed: int, device: str, options: LoadOptions
) -> str:
    """Generate one video and write it as mp4; returns what was done, in a sentence."""
    entry = find_model(model)
    require_writable(output, ".mp4")
    found = None if schedule is None else read_artifact(schedule, model).schedule_object()
    runner = Runner(load_pipeline(model, device, options), entry)
    generation = runner.generate(prompt, seed, found)
    write_mp4(generation.video, output, entry.fps)
    how = "without a schedule" if found is None else f"with {describe(found)} ({generation.summary})"
    return f"{output}: {generation.seconds:.1f} s {how}"


def profile_to(model: str, output: Path, seed: int, device: str, options: LoadOptions, progress: Progress) -> Path:
    """Profile one generation, write the profile and its figures; returns the figures' folder."""
    entry = find_model(model)
    require_writable(output, ".safetensors")
    space = load_space(search_spaces_folder() / entry.search_space)
    progress.stage("load", model)
    runner = Runner(load_pipeline(model, device, options), entry)
    prompt = entry.tuning_prompts(1)[0]
    progress.stage("time", "steps, attention, matching and gathering")
    timed = time_model(runner, prompt, space.strides)
    progress.stage("profile", "one observed generation")
    settings = settings_for(space, entry.workload.steps, seed)
    profile = observe_generation(runner, settings, seed, timed, progress.advance).profile
    profile.save(output)
    folder = output.with_name(output.stem + "-figures")
    save_figures(profile_figures(profile), folder)
    return folder
