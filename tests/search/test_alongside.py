"""Schedules around a cache that is given: planned for the steps that it computes, and timed with what it leaves out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asymrnr import Partner, Schedule
from tests.search.conftest import BLOCKS, GAPS, STEPS
from tuner.errors import UsageError
from tuner.latency.alongside import Alongside
from tuner.latency.model import LatencyModel
from tuner.profile.profile import Profile
from tuner.search.feasibility import best_attainable_with_memory
from tuner.search.losses import between
from tuner.search.memory import KINDS, MemorySolver
from tuner.search.result import Sharing
from tuner.search.space import SearchSpace
from tuner.search.study import rebuild, search

PARTNER = Partner.parse("first-block-cache:0.1")
SHARES = np.where(np.isin(np.arange(STEPS), [4, 6, 9]), 0.3, 1.0)
COMPUTED = np.flatnonzero(SHARES == 1)


@pytest.fixture
def beside(whole: LatencyModel) -> LatencyModel:
    return replace(whole, alongside=Alongside(PARTNER, tuple(SHARES.tolist())))


@pytest.fixture
def solver(remembering: Profile, beside: LatencyModel, space: SearchSpace) -> MemorySolver:
    return MemorySolver(remembering, beside, space)


def test_shares_are_those_of_steps_that_leave_out_equally_much() -> None:
    skipped = np.array([0, 0.75, 0, 0.75, 0.75, 0.5, 0])
    plain, tuned = np.full(7, 2.0), np.array([2.1, 0.6, 1.9, 0.8, 0.5, 1.2, 2.0])
    found = Alongside.of(PARTNER, plain, tuned, skipped)
    assert found.shares == pytest.approx((1, 0.3, 1, 0.3, 0.3, 0.6, 1))
    np.testing.assert_array_equal(found.computed, skipped == 0)
    assert found.share == pytest.approx(np.mean(found.shares))
    assert Alongside.of(PARTNER, plain, plain * 1.2, skipped).computed.tolist() == (skipped == 0).tolist()


def test_errors_between_some_steps_are_those_of_their_distance() -> None:
    rng = np.random.default_rng(0)
    error = rng.random((2, 9, 3, 4))
    steps = np.array([0, 1, 4, 6, 7])
    found = between(error, steps)
    assert found.shape == (2, 5, 3, 4)
    assert np.isnan(found[:, 0]).all()
    assert np.isnan(found[:, 1, 1:]).all()
    np.testing.assert_array_equal(found[:, 2, 0], error[:, 4, 2])  # 4 since 1
    assert np.isinf(found[:, 2, 1]).all()  # 4 since 0 is too long ago
    np.testing.assert_array_equal(found[:, 4, 0], error[:, 7, 0])
    np.testing.assert_array_equal(found[:, 4, 1], error[:, 7, 2])
    everything = between(error, np.arange(9))
    known = np.arange(9)[:, None] >= np.arange(1, 4)
    np.testing.assert_array_equal(everything[:, known], error[:, known])


def test_the_cache_alone_takes_what_was_measured(beside: LatencyModel, whole: LatencyModel) -> None:
    alone = Schedule({"Q": np.zeros((BLOCKS, STEPS))}, partner=PARTNER)
    assert beside.speedup(alone) == pytest.approx(1 / SHARES.mean())
    with pytest.raises(UsageError, match=r"first-block-cache:0\.1 was not measured"):
        whole.predict(alone)
    other = replace(alone, partner=Partner.parse("first-block-cache:0.2"))
    with pytest.raises(UsageError, match=r"first-block-cache:0\.2 was not measured"):
        beside.predict(other)
    assert LatencyModel.from_dict(beside.to_dict(), BLOCKS, STEPS) == beside


@pytest.mark.parametrize("sharing", KINDS)
@pytest.mark.parametrize("speedup", [1.25, 1.6, 2.5])
def test_a_candidate_gives_the_speed_that_it_says_and_leaves_the_cache_its_steps(
    solver: MemorySolver, beside: LatencyModel, sharing: Sharing, speedup: float
) -> None:
    found = solver.candidate(sharing, speedup)
    assert found.schedule.partner == PARTNER
    assert found.predicted_speedup == pytest.approx(beside.speedup(found.schedule))
    assert found.predicted_speedup >= speedup * (1 - 1e-9)
    assert found.schedule.actions is not None
    left = [step for step in range(STEPS) if step not in COMPUTED]
    assert (found.schedule.actions[:, left] == 0).all()
    assert (found.schedule.rates["Q"][:, left] == 0).all()


def test_where_the_cache_is_fast_enough_nothing_is_added(solver: MemorySolver, beside: LatencyModel) -> None:
    found = solver.candidate("refreshes", 1.05)
    assert found.predicted_error == 0
    assert found.schedule.actions is None
    assert found.schedule.partner == PARTNER
    assert found.predicted_speedup == pytest.approx(1 / SHARES.mean())


def test_a_search_around_a_cache_offers_what_comes_with_it(
    remembering: Profile, beside: LatencyModel, space: SearchSpace
) -> None:
    found = search(remembering, beside, space, 1.5, trials=12)
    assert [c.recipe.sharing for c in found.candidates] == [kind for kind in KINDS if kind != "computed"]  # the first
    assert all(c.schedule.partner == PARTNER for c in found.candidates)
    again = rebuild(found.candidates[0].recipe, remembering, beside, space, 1.7)
    assert again.predicted_speedup >= 1.7 * (1 - 1e-9)
    assert again.schedule.partner == PARTNER


def test_what_can_be_reached_counts_the_steps_that_are_computed(
    solver: MemorySolver, beside: LatencyModel, space: SearchSpace
) -> None:
    full = float(beside.sites.attention_seconds(0.0, 0.0).sum() + beside.sites.projection_seconds.sum())
    refreshes = -(-len(COMPUTED) // (1 + GAPS))
    outside = beside.outside_seconds / STEPS * len(COMPUTED)
    skipped = beside.step_seconds * (SHARES.sum() - len(COMPUTED))
    expected = beside.baseline_seconds / (outside + skipped + refreshes * full)
    assert best_attainable_with_memory(beside, space) == pytest.approx(expected)
    assert solver.attainable <= expected * (1 + 1e-9)  # windows do not reach over more steps than were profiled
