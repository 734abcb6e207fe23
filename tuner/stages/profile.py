"""One observed generation and a glance at a second prompt: what every site shows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tuner.context import Actions, Context
from tuner.latency.model import LatencyModel
from tuner.profile.profile import Profile
from tuner.profile.settings import ProfilerSettings
from tuner.profile.watch import agreements, short_steps
from tuner.run.job import Request
from tuner.search.space import SearchSpace

STAGE = "profile"
EXPECTED_IE, OBSERVING = 2.0, 1.5  # the latter as a multiple of a step that nobody looks at
PROFILE_FILE = "profile.safetensors"


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


def requests(ctx: Context, latency: LatencyModel) -> tuple[Request, Request]:
    """The observed generation, and the glance at a second prompt where that is not a part of it.

    Args:
        ctx: the run.
        latency: kept with the profile.
    """
    settings = settings_for(ctx.space, ctx.entry.workload.steps, ctx.options.seed, ctx.options.actions)
    second, seed, steps = ctx.entry.tuning_prompts(2)[1], ctx.tuning_seed, short_steps(settings)
    shown = repr(settings)
    instrument = ctx.instrument
    glance = instrument.job("glance", {"settings": settings.to_dict()}, prompt=second, seed=seed, settings=shown)
    apart = instrument.width > 1 or instrument.store.get(glance.key) is not None
    work = {
        "settings": settings.to_dict(),
        "latency": latency.to_dict(),
        "blocks": latency.blocks,
        "glance": not apart,
    }
    whole = instrument.job("profile", work, prompt=ctx.tuning_prompt, seed=seed, settings=shown)
    return Request(STAGE, whole, EXPECTED_IE), Request(STAGE, glance, OBSERVING * steps / settings.total_steps)


def profile_model(ctx: Context, latency: LatencyModel) -> Profiled:
    """Profile on the tuning prompt, or read back what an earlier run profiled; what predicts latency is kept with it.

    The profile is a record like every other; `profile.safetensors` is a copy for other commands.

    Raises:
        BudgetExhaustedError: the budget does not hold one observed generation.
    """
    ctx.progress.stage(STAGE, "one observed generation")
    whole, glance = requests(ctx, latency)
    record = ctx.instrument.measure(STAGE, whole.job, whole.expected_ie, ctx.progress.advance)
    arrays = {name: np.array(array) for name, array in record.arrays.items()}
    profile = Profile.from_record(record.values["profile"], arrays)
    if not profile.agreement:
        seen = ctx.instrument.measure(STAGE, glance.job, glance.expected_ie, ctx.progress.advance)
        profile = replace(profile, agreement=agreements(profile, np.array(seen.values["timesteps"]), seen.arrays))
    ctx.report_budget()
    path = ctx.options.output / PROFILE_FILE
    if not ctx.instrument.store.read_only and not path.is_file():
        profile.save(path)
    return Profiled(profile, f"{record.key_hash} {record.at}")
