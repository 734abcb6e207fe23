"""Generates with the profiler looking on: a whole generation, and a glance at a second prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import torch

import asymrnr
from asymrnr.install import has_caches
from tuner.latency.model import LatencyModel
from tuner.profile.agreement import Agreement, agreement, at_timesteps
from tuner.profile.checkpoint import Checkpoint, replayed
from tuner.profile.noise import noise_levels
from tuner.profile.observed import Observed
from tuner.profile.profile import Profile
from tuner.profile.profiler import Profiler
from tuner.profile.residual import ResidualErrors
from tuner.profile.settings import ProfilerSettings
from tuner.run.identity import describe_workload
from tuner.run.runner import Generation, Runner

SHORT_SHARE, SHORTEST = 8, 4  # steps of the second prompt's generation


def observe_generation(
    runner: Runner,
    settings: ProfilerSettings,
    seed: int,
    latency: LatencyModel,
    progress: Callable[[int, int], None],
    checkpoint: Checkpoint | None = None,
) -> tuple[Profile, Generation]:
    """Generate the first tuning prompt with the profiler looking on, and the second one in a few steps to compare.

    Args:
        runner: the model.
        settings: what to measure.
        seed: of both generations.
        latency: what predicts latency, kept with the profile.
        progress: told (steps begun, steps in all).
        checkpoint: where an interrupted generation goes on from.

    Returns:
        The profile, and the generation it was made from.
    """
    total = settings.total_steps + short_steps(settings)
    profile, generation = observe(runner, settings, seed, latency, lambda done, _: progress(done, total), checkpoint)
    second = runner.entry.tuning_prompts(2)[1]
    seen = look(runner, settings, second, seed, lambda done, _: progress(settings.total_steps + done, total))
    return replace(profile, agreement=agreements(profile, seen.timesteps, seen.raw_similarity)), generation


def observe(
    runner: Runner,
    settings: ProfilerSettings,
    seed: int,
    latency: LatencyModel,
    progress: Callable[[int, int], None],
    checkpoint: Checkpoint | None = None,
) -> tuple[Profile, Generation]:
    """The first tuning prompt alone; see `observe_generation`."""
    prompt = runner.entry.tuning_prompts(1)[0]
    profiler = Profiler(settings, progress)
    generation = watch(runner, profiler, prompt, seed, checkpoint)
    profile = profiler.finish(
        model=runner.entry.name,
        workload=describe_workload(runner),
        prompt=prompt,
        generation_seed=seed,
        latency=latency,
        transformer=type(runner.denoiser).__name__,
    )
    return replace(profile, noise_levels=noise_levels(runner.pipe.scheduler, profile.timesteps)), generation


def short_steps(settings: ProfilerSettings) -> int:
    """Steps of the generation that is glanced at."""
    return min(settings.total_steps, max(SHORTEST, settings.total_steps // SHORT_SHARE))


def look(
    runner: Runner, settings: ProfilerSettings, prompt: str, seed: int, progress: Callable[[int, int], None]
) -> Profile:
    """What a short generation of another prompt shows of the similarities.

    Args:
        runner: the model.
        settings: those of the profile.
        prompt, seed: of the generation.
        progress: told (steps begun, steps in all).
    """
    short = short_steps(settings)
    glance = Profiler(settings.for_similarity(short), progress)
    other = Runner(runner.pipe, runner.entry.with_workload(steps=short))
    other.generate(prompt, seed, observer=glance, decode=False)
    return glance.finish(runner.entry.name, {}, prompt, seed)


def agreements(
    profile: Profile, timesteps: np.ndarray, raw_similarity: Mapping[str, np.ndarray]
) -> dict[str, Agreement]:
    """Whether two prompts rank the sites alike, by feature.

    Args:
        profile: of one prompt.
        timesteps: (short,) of the other's short generation.
        raw_similarity: feature to (blocks, short), what that one showed.
    """
    return {
        feature: agreement(at_timesteps(table, profile.timesteps, timesteps), raw_similarity[feature])
        for feature, table in profile.raw_similarity.items()
    }


def watch(runner: Runner, profiler: Profiler, prompt: str, seed: int, checkpoint: Checkpoint | None) -> Generation:
    """Generate with the profiler looking on.

    The steps that a checkpoint holds are not computed again, but for the last few, on which what follows looks back.

    Args:
        runner: the model.
        profiler: looks on.
        prompt, seed: of the generation.
        checkpoint: keeps what was seen after every step; None for nowhere.
    """
    gaps = profiler.settings.memory_gaps
    if any(has_caches(model) for model in runner.denoisers):
        checkpoint = None  # a cache would not know what it left out
        gaps = 0  # and no other steps are left out beside it
    earlier, outputs = (Observed(), []) if checkpoint is None else checkpoint.load()
    begin, counts = profiler.looks_back(len(outputs))
    profiler.observed.timesteps.update({step: earlier.timesteps[step] for step in range(begin)})
    step, given = 0, list[torch.Tensor]()

    def observer(call: asymrnr.AttentionCall) -> None:
        profiler(replace(call, step=step))  # its own count begins where it was installed

    def on_output(output: torch.Tensor) -> None:
        profiler.on_output(step, output)
        given.append(output.clone())  # samplers may work in place

    with ExitStack() as stack:

        def on_step(ended: int) -> None:
            nonlocal step
            if ended == counts:
                profiler.observed.follow(earlier, counts)
            if checkpoint is not None and ended > len(outputs):
                checkpoint.keep(profiler.observed, given, step)
            given.clear()
            step = ended
            if ended == begin:
                stack.enter_context(asymrnr.observe(runner.pipe, observer))

        if gaps:
            stack.enter_context(ResidualErrors(profiler.observed, gaps, lambda: step).watch(runner.denoisers))
        stack.enter_context(replayed(runner.denoisers, outputs[:begin]))
        first = observer if begin == 0 else None
        return runner.generate(prompt, seed, on_step=on_step, observer=first, on_output=on_output, decode=False)
