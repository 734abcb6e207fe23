"""The lower bound: covers the truth as often as it says, and grows with evidence."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.certify import statistics as stats
from tuner.certify.statistics import PairedRun, estimate_speedup, relative_mad

STEPS = 30


def simulate(rng: np.random.Generator, runs: int, drift: float, noise: float, speedup: float = 1.3) -> list[PairedRun]:
    """Runs on a machine whose pace drifts between runs and jitters between steps; late steps are reduced more."""
    profile = np.linspace(1.1, 0.9, STEPS)
    result = []
    for _ in range(runs):
        pace_a, pace_b = np.exp(rng.normal(0, drift, 2))
        jitter = np.exp(rng.normal(0, noise, (2, STEPS)))
        result.append(PairedRun(pace_a * jitter[0], pace_b * jitter[1] * profile / profile.mean() / speedup))
    return result


def test_without_noise_the_bound_is_the_ratio() -> None:
    estimate = estimate_speedup(simulate(np.random.default_rng(0), 3, 0.0, 0.0))
    assert estimate.point == pytest.approx(1.3)
    assert estimate.lower_bound_95 == pytest.approx(1.3, rel=1e-6)
    assert estimate.relative_mad == pytest.approx(0, abs=1e-12)
    assert estimate.runs == 3


def test_the_bound_lies_below_the_truth_about_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 300)
    rng = np.random.default_rng(1)
    below = [estimate_speedup(simulate(rng, 6, 0.01, 0.03), seed=i).lower_bound_95 <= 1.3 for i in range(120)]
    assert 0.83 <= np.mean(below) <= 0.995  # six runs are few for a bootstrap, which then is a little optimistic


def test_more_drift_between_runs_lowers_the_bound() -> None:
    bounds = [
        np.mean([estimate_speedup(simulate(np.random.default_rng(s), 4, drift, 0.01)).lower_bound_95 for s in range(5)])
        for drift in (0.0, 0.05)
    ]
    assert bounds[1] < bounds[0] - 0.01


def test_a_single_pair_is_judged_by_the_scatter_of_its_unaccelerated_steps() -> None:
    [run] = simulate(np.random.default_rng(3), 1, 0.0, 0.05)
    estimate = estimate_speedup([run])
    assert estimate.relative_mad == pytest.approx(relative_mad(run.baseline))
    assert estimate.lower_bound_95 < estimate.point


def test_runs_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="equally many"):
        estimate_speedup([])
    with pytest.raises(ValueError, match="equally many"):
        estimate_speedup([PairedRun(np.ones(3), np.ones(2))])


def test_relative_mad() -> None:
    assert relative_mad(np.array([9.0, 10.0, 11.0, 30.0])) == pytest.approx(1.0 / 10.5)
