"""The baselines: the paper's manual rule follows its text, and uniform schedules meet their target."""

from __future__ import annotations

import numpy as np
import pytest

from asymrnr.schedule import Schedule
from tuner.latency.model import LatencyModel
from tuner.paper.heuristic import MAX_GENERATIONS, HandRule, tune_by_hand
from tuner.paper.staircase import staircase
from tuner.profile.profile import Profile
from tuner.search.error import ErrorModel
from tuner.search.scale import smallest_scale
from tuner.search.uniform import uniform_schedule

SHAPE = (3, 12)
SETTINGS = {"stride": (2, 2, 2), "cache_step": 5}


@pytest.fixture
def rule() -> HandRule:
    table = np.linspace(0, 1, SHAPE[0] * SHAPE[1]).reshape(SHAPE)
    windows = np.arange(SHAPE[1]) // 5 * 5
    return HandRule({"Q": table[:, windows], "V": table[:, windows]}, 0.875, SETTINGS)


def test_the_rate_rises_until_it_looks_bad_and_then_the_threshold_rises(rule: HandRule) -> None:
    best, attempts = tune_by_hand(rule, lambda s: max(t.max() for t in s.rates.values()) < 0.6)
    tried = [(a.threshold, a.rate, a.good) for a in attempts[:5]]
    assert tried == [(0.5, 0.3, True), (0.5, 0.5, True), (0.5, 0.7, False), (0.6, 0.5, True), (0.6, 0.7, False)]
    assert best is not None
    assert (best.threshold, best.rate) == (0.5, 0.5)  # of all good ones it leaves the least attention


def test_it_ends_at_the_highest_rate_when_everything_looks_good(rule: HandRule) -> None:
    best, attempts = tune_by_hand(rule, lambda s: True)
    assert [a.rate for a in attempts] == [0.3, 0.5, 0.7, 0.875]
    assert best == attempts[-1]


def test_it_gives_up_within_ten_generations_when_nothing_looks_good(rule: HandRule) -> None:
    best, attempts = tune_by_hand(rule, lambda s: False)
    assert best is None
    assert 0 < len(attempts) <= MAX_GENERATIONS
    assert {a.rate for a in attempts} == {0.3}


@pytest.mark.parametrize("features", [("Q", "V"), ("Q",)])
def test_uniform_rates_meet_the_target_and_no_more(model: LatencyModel, features: tuple[str, ...]) -> None:
    schedule = uniform_schedule(model, 1.2, SHAPE, features, 0.875, **SETTINGS)
    assert schedule is not None
    assert model.speedup(schedule) == pytest.approx(1.2, rel=1e-3)
    assert all(np.ptp(schedule.rates[f]) == 0 for f in features)


def test_a_family_that_cannot_reach_the_target_gives_nothing(model: LatencyModel) -> None:
    def build(scale: float) -> Schedule:
        return Schedule(rates={"Q": np.full(SHAPE, 0.1 * scale), "V": np.zeros(SHAPE)}, **SETTINGS)

    assert smallest_scale(build, model, 3.0) is None


def test_the_heuristic_drawn_on_the_surrogate_gets_faster_and_worse(profile: Profile, model: LatencyModel) -> None:
    points = staircase(profile, model, ErrorModel(profile))
    assert len(points) == 4  # rates 0.3, 0.5, 0.7 and the highest
    assert [p.speedup for p in points] == sorted(p.speedup for p in points)
    assert [p.error for p in points] == sorted(p.error for p in points)
    assert points[0].speedup > 1
