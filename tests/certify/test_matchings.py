"""Pairs of schedules that match now and then: the steps that do are part of the estimate, and no disturbance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from asymrnr.actions import Action
from asymrnr.schedule import Schedule
from tuner.run.estimate import PairedSteps, estimate_pair

BLOCKS, STEPS = 8, 30
ATTENTION = 0.65  # of a step
PAIRS = 200


def copying(cache_step: int, rates: dict[str, float]) -> Schedule:
    return Schedule({f: np.full((BLOCKS, STEPS), rate) for f, rate in rates.items()}, cache_step=cache_step)


def with_memory(period: int) -> Schedule:
    actions = np.full((BLOCKS, STEPS), Action.MEMORY)
    actions[:, ::period] = Action.REFRESH
    return Schedule({"Q": np.where(actions == Action.MEMORY, 0.6, 0.0)}, actions=actions)


SCHEDULES = {
    "copies Q and V": copying(3, {"Q": 0.5, "V": 0.3}),
    "copies Q for long": copying(5, {"Q": 0.8}),
    "restores with memory": with_memory(3),
    "refreshes every second step": with_memory(2),
}
every_schedule = pytest.mark.parametrize("name", SCHEDULES)


def ratios(schedule: Schedule, matching: float) -> np.ndarray:
    """What every step takes of a plain one where matching a feature everywhere takes so much."""
    return 1 - ATTENTION * (1 - schedule.attention_of_steps()) + matching * schedule.matchings_of_steps()


@every_schedule
@pytest.mark.parametrize("matching", [0.05, 0.15, 0.3])
def test_without_noise_the_estimate_is_the_ratio_of_total_times(name: str, matching: float) -> None:
    schedule = SCHEDULES[name]
    tuned = ratios(schedule, matching)
    said = {"attention": schedule.attention_of_steps(), "matchings": schedule.matchings_of_steps()}
    estimate = estimate_pair(PairedSteps(np.ones(STEPS), tuned, **said))
    assert estimate.speedup == pytest.approx(1 / tuned.mean(), rel=2e-3)
    assert estimate.disturbed == 0


@every_schedule
def test_steps_that_match_are_not_taken_for_disturbed(name: str) -> None:
    schedule, rng = SCHEDULES[name], np.random.default_rng(0)
    exact = ratios(schedule, 0.15)
    said = {"attention": schedule.attention_of_steps(), "matchings": schedule.matchings_of_steps()}
    found = []
    for _ in range(PAIRS):
        plain, noise = (np.exp(rng.normal(0, 0.04, STEPS)) for _ in range(2))
        found.append(estimate_pair(PairedSteps(plain, exact * noise, **said)))
    errors = np.array([one.log_speedup for one in found]) + math.log(exact.mean())
    assert abs(errors.mean()) < 0.003
    assert np.mean([one.disturbed for one in found]) < 0.2
