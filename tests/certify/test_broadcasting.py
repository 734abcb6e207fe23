"""Pairs whose schedules broadcast, and so leave out more than attention: the estimate is that of all steps."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from asymrnr.actions import Action
from asymrnr.schedule import Schedule
from tests.certify.machine import QUIET, Machine, simulate
from tuner.run.estimate import INFLUENCE, LEAST_SPREAD, PairedSteps, PairEstimate, estimate_pair

BLOCKS, STEPS = 8, 30
TRUTH, PAIRS = 1.3, 100

FULL, REFRESH, MEMORY, BROADCAST = Action.REDUCE, Action.REFRESH, Action.MEMORY, Action.BROADCAST


def acting(*rows: list[Action]) -> Schedule:
    """Rows of actions, each for as many blocks and said again and again; memory restores 0.6 of the queries."""
    actions = np.concatenate([np.tile(row, (BLOCKS // len(rows), STEPS))[:, :STEPS] for row in rows])
    return Schedule({"Q": np.where(actions == MEMORY, 0.6, 0.0)}, actions=actions)


MIXES = {
    "every second step": acting([REFRESH, BROADCAST]),
    "long windows": acting([REFRESH, *[BROADCAST] * 5]),
    "half of the blocks": acting([REFRESH, BROADCAST, BROADCAST], [FULL]),
    "memory in the others": acting([REFRESH, BROADCAST, BROADCAST], [REFRESH, MEMORY, MEMORY]),
    "by turns": acting([REFRESH, MEMORY, MEMORY, REFRESH, BROADCAST]),
    "windows of their own": acting(
        [REFRESH, BROADCAST, BROADCAST], [REFRESH, *[MEMORY] * 4], [REFRESH, BROADCAST], [FULL]
    ),
    "no broadcasting": acting([REFRESH, MEMORY, MEMORY]),
}
every_mix = pytest.mark.parametrize("mix", MIXES)


def shares(mix: str) -> tuple[np.ndarray, np.ndarray]:
    return MIXES[mix].attention_of_steps(), MIXES[mix].broadcast_of_steps()


@every_mix
@pytest.mark.parametrize(
    ("attention", "projections"), [(0.3, 0.0), (0.3, 0.15), (0.4, 0.13), (0.6, 0.3), (0.2, 0.37), (0.05, 0.05)]
)
def test_without_noise_the_estimate_is_the_ratio_of_total_times(mix: str, attention: float, projections: float) -> None:
    left, broadcast = shares(mix)
    tuned = 1 - attention * (1 - left) - projections * broadcast
    estimate = estimate_pair(PairedSteps(np.ones(STEPS), tuned, left, broadcast))
    assert estimate.speedup == pytest.approx(1 / tuned.mean(), rel=1e-3)
    assert (estimate.disturbed, estimate.steps, estimate.usable) == (0, STEPS, True)


def test_a_pace_that_changes_evenly_changes_nothing() -> None:
    left, broadcast = shares("memory in the others")
    tuned, pace = 1 - 0.4 * (1 - left) - 0.2 * broadcast, np.linspace(1, 3, STEPS)
    still = estimate_pair(PairedSteps(np.ones(STEPS), tuned, left, broadcast))
    slowed = estimate_pair(PairedSteps(pace, tuned * pace, left, broadcast))
    assert slowed.log_speedup == pytest.approx(still.log_speedup, abs=1e-9)


def test_what_broadcasts_is_told_from_what_is_disturbed() -> None:
    left, broadcast = shares("long windows")
    tuned = 1 - 0.3 * (1 - left) - 0.4 * broadcast
    clean = estimate_pair(PairedSteps(np.ones(STEPS), tuned, left, broadcast))
    disturbed = tuned.copy()
    disturbed[[7, 18]] *= 2  # a step that broadcasts, and a refresh
    estimate = estimate_pair(PairedSteps(np.ones(STEPS), disturbed, left, broadcast))
    assert estimate.disturbed == 2
    weights = tuned[[7, 18]].sum() / tuned.sum()
    assert estimate.log_speedup == pytest.approx(clean.log_speedup, abs=1.2 * weights * INFLUENCE * LEAST_SPREAD)


def test_broadcasting_nowhere_is_the_same_as_not_saying_so() -> None:
    [pair] = simulate(np.random.default_rng(0), Machine(), 1)
    assert pair.broadcast is None
    said = PairedSteps(pair.plain, pair.tuned, pair.attention, np.zeros(len(pair.plain)))
    assert estimate_pair(said) == estimate_pair(pair)


def test_shares_that_do_not_pair_are_refused() -> None:
    for broadcast in ([0.0], [0.0, math.nan]):
        with pytest.raises(ValueError, match="estimate_pair needs"):
            estimate_pair(PairedSteps(np.ones(2), np.ones(2), np.ones(2), np.array(broadcast)))


MACHINES = {"quiet": QUIET, "noise": Machine(), "drift over 5 s": Machine(drift=0.1, memory=5)}
SIMULATED = [
    ("quiet", "long windows", 0.4),
    ("noise", "windows of their own", 0.2),
    ("drift over 5 s", "memory in the others", 0.3),
]
simulated = pytest.mark.parametrize(("machine", "mix", "projections"), SIMULATED)


@cache
def estimates(machine: str, mix: str, projections: float) -> list[PairEstimate]:
    """Of pairs that all have the same true speed-up."""
    alike, rng = replace(MACHINES[machine], between=0), np.random.default_rng(1)
    return [estimate_pair(pair) for pair in simulate(rng, alike, PAIRS, TRUTH, *shares(mix), projections)]


@simulated
def test_on_a_machine_with_noise_the_estimate_is_the_truth(machine: str, mix: str, projections: float) -> None:
    found = [estimate.log_speedup for estimate in estimates(machine, mix, projections)]
    assert np.mean(found) == pytest.approx(math.log(TRUTH), abs=0.003)
    assert np.mean([estimate.disturbed / estimate.steps for estimate in estimates(machine, mix, projections)]) < 0.01


@simulated
def test_the_scatter_of_steps_foretells_that_of_pairs(machine: str, mix: str, projections: float) -> None:
    found = estimates(machine, mix, projections)
    inside = np.sqrt(np.mean([estimate.standard_error**2 for estimate in found]))
    assert inside == pytest.approx(np.std([estimate.log_speedup for estimate in found]), rel=0.15)
