"""One observed generation: similarities, divergences and error curves of every site, and the unaccelerated video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from tuner.job.context import Context
from tuner.job.workload import describe_workload
from tuner.profile.profile import Profile
from tuner.profile.profiler import Profiler, ProfilerSettings
from tuner.runner import Generation, Runner
from tuner.search.space import SearchSpace
from tuner.surrogate.latency import LatencyModel

STAGE = "profile"
EXPECTED_IE = 1.5
PROFILE_FILE = "profile.safetensors"


@dataclass(frozen=True)
class Profiled:
    """The profile and the unaccelerated video of the same generation, (frames, 3, height, width) in [0, 1]."""

    profile: Profile
    video: torch.Tensor


def settings_for(space: SearchSpace, total_steps: int, seed: int) -> ProfilerSettings:
    """Profile everything the search space can choose."""
    return ProfilerSettings(
        strides=space.strides,
        cache_steps=space.cache_steps,
        rates=space.rates,
        seed=seed,
        total_steps=total_steps,
    )


def observe_generation(
    runner: Runner,
    settings: ProfilerSettings,
    prompt: str,
    seed: int,
    latency: LatencyModel,
    progress: Callable[[int, int], None],
) -> tuple[Profile, Generation]:
    """Generate once with the profiler looking on.

    Args:
        runner: the model.
        settings: what to measure.
        prompt, seed: what to generate.
        latency: what predicts latency, kept with the profile.
        progress: told (steps begun, steps in all).
    """
    profiler = Profiler(settings, progress=progress)
    generation = runner.generate(prompt, seed, observer=profiler)
    profile = profiler.finish(
        model=runner.entry.name,
        workload=describe_workload(runner),
        prompt=prompt,
        generation_seed=seed,
        latency=latency.sites,
        rest_seconds=latency.rest_seconds,
        transformer=type(runner.denoiser).__name__,
    )
    return profile, generation


def profile_model(ctx: Context, latency: LatencyModel) -> Profiled:
    """Profile on the tuning prompt, or read back what an earlier run profiled; what predicts latency is kept with it.

    Raises:
        BudgetExhaustedError: the budget does not hold one observed generation.
    """
    ctx.progress.stage(STAGE, "one observed generation")
    path = ctx.options.output / PROFILE_FILE
    settings = settings_for(ctx.space, ctx.entry.workload.steps, ctx.options.seed)
    key = ctx.meter.key("profile", prompt=ctx.tuning_prompt, seed=ctx.tuning_seed, settings=repr(settings))
    record = ctx.store.get(key)
    if record is None or not path.is_file():
        ctx.ledger.check(EXPECTED_IE, STAGE)
        profile, generation = observe_generation(
            ctx.runner, settings, ctx.tuning_prompt, ctx.tuning_seed, latency, ctx.progress.advance
        )
        profile.save(path)
        video = (generation.video * 255).round().byte().numpy()
        record = ctx.store.put(key, {"seconds": generation.seconds}, {"video": video})
    ctx.ledger.charge(STAGE, record.values["seconds"])
    ctx.report_budget()
    return Profiled(Profile.load(path), torch.from_numpy(record.arrays["video"].copy()).float() / 255)
