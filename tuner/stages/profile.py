"""One observed generation and a glance at a second prompt: what every site shows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import torch

import asymrnr
from asymrnr.install import has_caches
from tuner.context import Actions, Context
from tuner.latency.model import LatencyModel
from tuner.profile.agreement import agreement, at_timesteps
from tuner.profile.checkpoint import Checkpoint, replayed
from tuner.profile.observed import Observed
from tuner.profile.profile import Profile
from tuner.profile.profiler import Profiler
from tuner.profile.settings import ProfilerSettings
from tuner.run.identity import describe_workload
from tuner.run.instrument import Made
from tuner.run.runner import Generation, Runner
from tuner.run.store import key_hash
from tuner.search.space import SearchSpace

STAGE = "profile"
EXPECTED_IE = 2.0
SHORT_SHARE, SHORTEST = 8, 4  # steps of the second prompt's generation
PROFILE_FILE = "profile.safetensors"
CHECKPOINT_FOLDER = "profile-unfinished"


@dataclass(frozen=True)
class Profiled:
    """What was profiled.

    Attributes:
        profile: the profile.
        content_hash: names the record it was read from, and when that was made.
    """

    profile: Profile
    content_hash: str = ""


def settings_for(space: SearchSpace, total_steps: int, seed: int, actions: Actions = "all") -> ProfilerSettings:
    """Profile everything the search space can choose."""
    gaps = min(space.memory_gaps, total_steps - 1) if actions == "all" else 0
    return ProfilerSettings(
        strides=space.strides,
        cache_steps=space.cache_steps,
        rates=space.rates,
        seed=seed,
        total_steps=total_steps,
        memory_gaps=gaps,
    )


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
    prompt, second = runner.entry.tuning_prompts(2)
    short = min(settings.total_steps, max(SHORTEST, settings.total_steps // SHORT_SHARE))
    total = settings.total_steps + short
    profiler = Profiler(settings, progress=lambda done, _: progress(done, total))
    generation = watch(runner, profiler, prompt, seed, checkpoint)
    profile = profiler.finish(
        model=runner.entry.name,
        workload=describe_workload(runner),
        prompt=prompt,
        generation_seed=seed,
        latency=latency,
        transformer=type(runner.denoiser).__name__,
    )
    glance = Profiler(
        settings.for_similarity(short), progress=lambda done, _: progress(settings.total_steps + done, total)
    )
    Runner(runner.pipe, runner.entry.with_workload(steps=short)).generate(second, seed, observer=glance)
    seen = glance.finish(runner.entry.name, {}, second, seed)
    agreements = {
        feature: agreement(at_timesteps(table, profile.timesteps, seen.timesteps), seen.raw_similarity[feature])
        for feature, table in profile.raw_similarity.items()
    }
    return replace(profile, agreement=agreements), generation


def watch(runner: Runner, profiler: Profiler, prompt: str, seed: int, checkpoint: Checkpoint | None) -> Generation:
    """Generate with the profiler looking on.

    The steps that a checkpoint holds are not computed again, but for the last few, on which what follows looks back.

    Args:
        runner: the model.
        profiler: looks on.
        prompt, seed: of the generation.
        checkpoint: keeps what was seen after every step; None for nowhere.
    """
    if any(has_caches(model) for model in runner.denoisers):
        checkpoint = None  # a cache would not know what it left out
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

        stack.enter_context(replayed(runner.denoisers, outputs[:begin]))
        first = observer if begin == 0 else None
        return runner.generate(prompt, seed, on_step=on_step, observer=first, on_output=on_output)


def profile_model(ctx: Context, latency: LatencyModel) -> Profiled:
    """Profile on the tuning prompt, or read back what an earlier run profiled; what predicts latency is kept with it.

    The profile is a record like every other; `profile.safetensors` is a copy for other commands.

    Raises:
        BudgetExhaustedError: the budget does not hold one observed generation.
    """
    ctx.progress.stage(STAGE, "one observed generation")
    settings = settings_for(ctx.space, ctx.entry.workload.steps, ctx.options.seed, ctx.options.actions)

    def make() -> Made:
        runner = ctx.instrument.runner
        profile, _ = observe_generation(runner, settings, ctx.tuning_seed, latency, ctx.progress.advance, checkpoint)
        values, arrays = profile.to_record()
        return {"profile": values}, arrays

    key = ctx.instrument.key("profile", prompt=ctx.tuning_prompt, seed=ctx.tuning_seed, settings=repr(settings))
    checkpoint = Checkpoint(ctx.options.output / CHECKPOINT_FOLDER, key_hash(key))
    record = ctx.instrument.measure(STAGE, key, make, EXPECTED_IE)
    ctx.report_budget()
    arrays = {name: np.array(array) for name, array in record.arrays.items()}
    profile = Profile.from_record(record.values["profile"], arrays)
    path = ctx.options.output / PROFILE_FILE
    if not ctx.instrument.store.read_only:
        checkpoint.remove()  # the record is on disk now
        if not path.is_file():
            profile.save(path)
    return Profiled(profile, f"{record.key_hash} {record.at}")
