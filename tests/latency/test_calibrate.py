"""A few steps of a simple schedule: matching is told from attention, whatever the micro-benchmarks said."""

from __future__ import annotations

import math
from dataclasses import astuple, replace

import numpy as np
import pytest

from asymrnr.actions import Action
from tuner.latency.calibrate import calibration_schedule, errors_of_medians, evidence_by_matching, period
from tuner.latency.fit import fit
from tuner.latency.model import Coefficients, LatencyModel

EVERY = 3
both_kinds = pytest.mark.parametrize("with_memory", [False, True])


def steps_of(truth: LatencyModel, with_memory: bool, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(steps,) seconds, plain and with the calibration schedule."""
    schedule = calibration_schedule(truth.sites, "2x2x2", truth.steps, EVERY, with_memory)
    rng, alone = np.random.default_rng(seed), np.eye(truth.steps, dtype=bool)
    taken = [1 + truth.sensitivity(schedule, step) @ astuple(truth.coefficients) for step in alone]
    plain, tuned = (np.exp(rng.normal(0, noise, truth.steps)) for _ in range(2))
    return truth.step_seconds * plain, truth.step_seconds * np.array(taken) * tuned


@both_kinds
def test_attention_and_matching_are_both_found(whole: LatencyModel, with_memory: bool) -> None:
    truth = replace(whole, coefficients=Coefficients(0.8, 1.0, 1.6, 1.0))
    schedule = calibration_schedule(whole.sites, "2x2x2", whole.steps, EVERY, with_memory)
    fitted = fit(whole, evidence_by_matching(schedule, *steps_of(truth, with_memory, 0.0, 0)))
    assert fitted.coefficients.attention == pytest.approx(0.8, abs=0.05)
    matches = schedule.matchings_of_steps() > 0
    for steps in (matches, ~matches):
        found, true, before = (
            1 + model.sensitivity(schedule, steps) @ astuple(model.coefficients) for model in (fitted, truth, whole)
        )
        assert found == pytest.approx(true, rel=0.01)
        assert abs(before / true - 1) > 0.02


@both_kinds
def test_predictions_are_as_good_as_their_intervals(whole: LatencyModel, with_memory: bool) -> None:
    """Of the schedule that ran, over machines that the prior thinks likely."""
    schedule = calibration_schedule(whole.sites, "2x2x2", whole.steps, EVERY, with_memory)
    inside = []
    for seed in range(200):
        values = np.random.default_rng(seed).multivariate_normal(np.ones(4), whole.covariance).clip(0.2)
        values /= max(1.0, whole.full_shares @ values)
        truth = replace(whole, coefficients=Coefficients(*values.tolist()))
        fitted = fit(whole, evidence_by_matching(schedule, *steps_of(truth, with_memory, 0.05, seed)))
        low, high = fitted.speedup_interval(schedule)
        inside.append(low <= truth.speedup(schedule) <= high)
    assert np.mean(inside) >= 0.9


@pytest.mark.parametrize("sizes", [(6, 3), (8, 4), (4, 2), (2, 1)])
def test_errors_of_medians_cover(sizes: tuple[int, int]) -> None:
    rng, inside = np.random.default_rng(0), []
    for _ in range(2000):
        groups = [rng.normal(0, 0.05, size) for size in sizes]
        errors = errors_of_medians(groups)
        inside += [abs(np.median(group)) < 1.96 * error for group, error in zip(groups, errors, strict=True)]
    assert np.mean(inside) >= 0.94


def test_a_burst_costs_certainty_but_moves_nothing() -> None:
    rng = np.random.default_rng(0)
    quiet = rng.normal(0, 0.05, 8)
    disturbed = np.append(quiet[:-1], 1.0)
    (before,), (after,) = errors_of_medians([quiet]), errors_of_medians([disturbed])
    assert before < after < 4 * before
    assert errors_of_medians([np.zeros(1), np.ones(1)]) == [math.inf] * 2


def test_the_schedule_with_memory_refreshes_where_the_other_matches(model: LatencyModel) -> None:
    copying, remembering = (calibration_schedule(model.sites, "2x2x2", 9, EVERY, kind) for kind in (False, True))
    assert np.flatnonzero(copying.matchings_of_steps()).tolist() == [0, 3, 6]
    assert copying.matchings_of_steps()[0] == 2  # Q and V
    assert remembering.matchings_of_steps().tolist() == [1, 0, 0] * 3
    assert remembering.actions is not None
    assert (remembering.actions[:, ::EVERY] == Action.REFRESH).all()
    assert (period(1, with_memory=False), period(1, with_memory=True)) == (1, 2)


def test_a_schedule_that_always_matches_has_one_kind_of_step(model: LatencyModel) -> None:
    schedule = calibration_schedule(model.sites, "2x2x2", 4, 1, with_memory=False)
    (evidence,) = evidence_by_matching(schedule, np.full(4, 1.2), np.ones(4))
    assert evidence.log_speedup == pytest.approx(np.log(1.2))
