"""A method beside the plain pipeline in lock-step, measured like the pairs of a tuning run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import numpy as np

from asymrnr.adapters import find_adapter
from asymrnr.install import find_sites
from asymrnr.schedule import Schedule
from tuner.certify.statistics import BOTH_SIDES, mean_bounds
from tuner.run.estimate import PairedSteps, PairEstimate, estimate_pair, estimate_shaped
from tuner.run.lockstep import Turn, in_lockstep
from tuner.run.runner import Generation, Runner
from tuner.run.twin import twin_pipeline

REPEATS = 2  # of a pair most of whose steps were disturbed
Install = Callable[[Runner], AbstractContextManager[object]]


class Beside(NamedTuple):
    """One prompt and seed, plain and with a method; and the share of every step's attention that the method left."""

    plain: Generation
    method: Generation
    estimate: PairEstimate
    attention: np.ndarray


def twin_of(runner: Runner) -> Runner:
    """The same model once more, on the same weights, for the method's side."""
    return Runner(twin_pipeline(runner.pipe), runner.entry)


def warm_up(runner: Runner, twin: Runner, prompt: str) -> None:
    """Run a step or two of each."""
    for one in (runner, twin):
        one.time_steps(2, prompt)


def beside_plain(
    runner: Runner,
    twin: Runner,
    prompt: str,
    seed: int,
    schedule: Schedule | None = None,
    install: Install | None = None,
    repeats: int = REPEATS,
) -> Beside:
    """Generate once plainly and once with a method, step by step in turn.

    Args:
        runner: the plain pipeline.
        twin: see `twin_of`.
        prompt, seed: of both.
        schedule: of the method.
        install: installs whatever else belongs to the method in the twin, such as a cache of diffusers.
        repeats: how often to measure again while most of the steps were disturbed.
    """
    # As the instrument does it: on a CPU, noise is common to neighbouring tenths of a second.
    within_steps = runner.device.type == "cpu"

    def plain_side(turn: Turn) -> Generation:
        return runner.generate(prompt, seed, turn=turn, within_steps=within_steps)

    def method_side(turn: Turn) -> tuple[Generation, np.ndarray]:
        if install is None:
            found = twin.generate(prompt, seed, schedule, turn=turn, within_steps=within_steps)
            return found, called_by(schedule, len(found.step_seconds))
        with install(twin), attention_calls(twin) as calls:
            found = twin.generate(prompt, seed, schedule, turn=turn, within_steps=within_steps)
        return found, np.array(calls).reshape(len(found.step_seconds), -1).mean(1).round(9)

    for _ in range(1 + repeats):
        plain, (method, called) = in_lockstep(plain_side, method_side)
        attention = attention_left(schedule, called)
        seconds = plain.step_seconds, method.step_seconds
        if schedule is None:
            estimate = estimate_shaped(*seconds, levels(*seconds, called))
        else:
            skipped = schedule.reused_steps().astype(float)
            said = (attention, 1 - called, schedule.matchings_of_steps(), skipped)
            estimate = estimate_pair(PairedSteps(*seconds, *said))
        if estimate.usable:
            break
    return Beside(plain, method, estimate, attention)


def levels(plain: np.ndarray, method: np.ndarray, called: np.ndarray) -> np.ndarray:
    """(steps,) ratio expected of each step: the median of those that compute as many attention modules.

    A cache that skips whole blocks takes a hundredth of a plain step, which a line through all steps cannot tell from
    nothing.
    """
    ratio, expected = method / plain, np.empty(len(plain))
    for share in np.unique(called):
        expected[called == share] = np.median(ratio[called == share])
    return expected


def called_by(schedule: Schedule | None, steps: int) -> np.ndarray:
    """(steps,) share of the attention modules that a schedule has computed, at whatever rates."""
    return np.ones(steps) if schedule is None else 1 - schedule.broadcast_of_steps()


def attention_left(schedule: Schedule | None, called: np.ndarray) -> np.ndarray:
    """(steps,) share of the attention computed, where so many modules were: those a cache skipped are taken evenly."""
    if schedule is None:
        return called
    planned = called_by(schedule, len(called))
    asked = np.divide(called, planned, out=np.zeros_like(called), where=planned > 0)
    return schedule.attention_of_steps() * np.minimum(asked, 1)


@contextmanager
def attention_calls(runner: Runner) -> Iterator[list[float]]:
    """Share of the attention sites that are computed in every call of the denoiser; a cache skips some of them."""
    sites: list[Any] = find_sites(runner.denoiser, find_adapter(runner.denoiser))
    shares: list[float] = []

    def on_forward(*_: object) -> None:
        shares.append(0.0)

    def on_site(*_: object) -> None:
        shares[-1] += 1 / len(sites)

    hooks = [runner.denoiser.register_forward_pre_hook(on_forward)]
    hooks += [site.to_q.register_forward_pre_hook(on_site) for site in sites]
    try:
        yield shares
    finally:
        for hook in hooks:
            hook.remove()


def typical(logs: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Geometric mean from logarithms with its 95 % t interval; a single value has none."""
    bounds = mean_bounds(logs, BOTH_SIDES)
    if bounds.low is None or bounds.high is None:
        return math.exp(bounds.mean), None, None
    return math.exp(bounds.mean), math.exp(bounds.low), math.exp(bounds.high)


def typical_text(logs: Sequence[float], form: str = "{:.3f}") -> str:
    """The same in words."""
    value, low, high = typical(logs)
    around = "(n = 1)" if low is None else f"({form.format(low)} to {form.format(high)})"
    return f"{form.format(value)} {around}"
