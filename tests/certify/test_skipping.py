"""Pairs whose caches leave blocks out of steps: the estimate is that of all steps, however short some are."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.certify.machine import ATTENTION, QUIET, Machine, simulate
from tuner.run.estimate import PairedSteps, estimate_pair

STEPS, TRUTH, PAIRS = 30, 1.8, 100
EVERY_SECOND = np.arange(STEPS) % 2 == 1
LATE = np.array([0] * 12 + [0, 1, 1] * 6)
FIRST_BLOCK_COMPUTED = LATE * 7 / 8
machines = pytest.mark.parametrize(
    "machine", [QUIET, Machine(), Machine(drift=0.1, memory=5)], ids=["quiet", "noise", "drift"]
)
patterns = pytest.mark.parametrize("skipped", [EVERY_SECOND, LATE, FIRST_BLOCK_COMPUTED], ids=["2nd", "late", "blocks"])


@patterns
@pytest.mark.parametrize("attention", [0.0, 0.3, 0.6])
def test_without_noise_the_estimate_is_the_ratio_of_total_times(skipped: np.ndarray, attention: float) -> None:
    tuned = np.where(skipped > 0, 1 - 0.97 * skipped, 1 - attention * (1 - ATTENTION))
    estimate = estimate_pair(PairedSteps(np.ones(STEPS), tuned, ATTENTION, skipped=skipped.astype(float)))
    assert estimate.speedup == pytest.approx(1 / tuned.mean(), rel=1e-3)
    assert estimate.disturbed == 0


@machines
@patterns
def test_on_a_machine_with_noise_the_estimate_is_the_truth(machine: Machine, skipped: np.ndarray) -> None:
    alike, rng = replace(machine, between=0), np.random.default_rng(1)
    pairs = simulate(rng, alike, PAIRS, TRUTH, skipped=skipped.astype(float))
    found = [estimate_pair(pair) for pair in pairs]
    assert np.mean([one.log_speedup for one in found]) == pytest.approx(math.log(TRUTH), abs=0.004)
    assert np.mean([one.disturbed / one.steps for one in found]) < 0.01
    inside = np.sqrt(np.mean([one.standard_error**2 for one in found]))
    assert inside == pytest.approx(np.std([one.log_speedup for one in found]), rel=0.25)


def test_a_short_step_that_jitters_is_not_disturbed_and_a_long_one_is() -> None:
    tuned = np.where(EVERY_SECOND, 0.03, 0.8)
    jittered = tuned.copy()
    jittered[[5, 11, 21]] *= 1.6
    assert estimate_pair(PairedSteps(np.ones(STEPS), jittered, ATTENTION, skipped=EVERY_SECOND)).disturbed == 0
    jittered[[4, 9]] = 1.6, 0.3
    assert estimate_pair(PairedSteps(np.ones(STEPS), jittered, ATTENTION, skipped=EVERY_SECOND)).disturbed == 2
