"""What the benchmarks on the embedded model share: its runner, its profile and the machine's latency model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import asymrnr
from asymrnr.schedule import Schedule
from tuner.latency.model import LatencyModel
from tuner.models import REGISTRY, load_pipeline
from tuner.opening import open_scratch
from tuner.profile.profile import Profile
from tuner.run.identity import environment
from tuner.run.runner import Runner
from tuner.search.space import load_space_of
from tuner.stages.preflight import measure_latency
from tuner.strides import stride_name

MODEL = "tiny-cogvideox"
PROFILE = Path(__file__).parents[1] / "runs" / "tiny-cogvideox-x1.20" / "profile.safetensors"
QUICK_STEPS = 3
ANY_TARGET = 2.0  # what is measured does not depend on it


def load_runner(device: str, quick: bool) -> Runner:
    """The embedded model; when quick with few denoising steps."""
    entry = REGISTRY[MODEL]
    if quick:
        entry = entry.with_workload(steps=QUICK_STEPS)
    return Runner(load_pipeline(MODEL, device), entry)


def shorten(schedule: Schedule, steps: int) -> Schedule:
    """The first steps of a schedule, at the timesteps of a shorter generation."""
    if schedule.steps == steps:
        return schedule
    rates = {feature: table[:, :steps] for feature, table in schedule.rates.items()}
    actions = None if schedule.actions is None else schedule.actions[:, :steps]
    return replace(schedule, rates=rates, actions=actions, timesteps=None, form="table")


def shipped_schedule(steps: int) -> Schedule:
    """The tuned schedule that ships with the embedded model."""
    return shorten(asymrnr.load(MODEL), steps)


def load_profile() -> Profile:
    """The profile of the README's first command."""
    return Profile.load(PROFILE)


def titled(document: str, model: str, *steps: int) -> str:
    """Name of a document on a model, in so many steps where it says so; the first model's are without its name."""
    return "-".join([document, *([] if model == MODEL else [model]), *map(str, steps)])


def decibels(errors: Sequence[float]) -> float:
    """PSNR of the geometric mean of mean squared errors, values in [0, 1]."""
    return -10 * float(np.log10(np.exp(np.mean(np.log(errors)))))


def keep_results(name: str, prompts: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as `benchmarks/results/NAME.json`, with the machine and the prompts that they are of."""
    output = Path(__file__).parent / "results" / f"{name}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    content = {"environment": environment(), "prompts": list(prompts), "rows": list(rows)}
    output.write_text(json.dumps(content, indent=1) + "\n")


def machine_model(runner: Runner, schedules: list[Schedule]) -> LatencyModel:
    """The latency model of this machine as it is now, for the schedules' strides, measured as a tuning run does."""
    strides = tuple(dict.fromkeys(stride_name(s.stride) for s in schedules))
    space = load_space_of(runner.entry).model_copy(update={"strides": strides})
    with open_scratch(runner, space) as ctx:
        return measure_latency(ctx)
