"""Windows in which all blocks are left out: what they promise, and the cache that carries them out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.search.conftest import BLOCKS, GAPS, STEPS
from tests.search.window_problems import optimum
from tuner.latency.model import LatencyModel
from tuner.profile.profile import Profile
from tuner.search.feasibility import best_attainable_with_memory
from tuner.search.memory import KINDS, MemorySolver
from tuner.search.record import from_record, to_record
from tuner.search.result import Sharing
from tuner.search.space import SearchSpace
from tuner.search.study import rebuild, search
from tuner.stages.verify import FINALISTS

SHARE = 0.05
SPEEDS = (1.2, 1.8, 2.5, 4.0)


@pytest.fixture
def reusing(space: SearchSpace) -> SearchSpace:
    return space.model_copy(update={"reuse": True})


@pytest.fixture
def timed(whole: LatencyModel) -> LatencyModel:
    return replace(whole, reused_share=SHARE)


@pytest.fixture
def seen(remembering: Profile) -> Profile:
    """The output changes with the distance, and late in a generation less."""
    rng = np.random.default_rng(3)
    gap, before = np.arange(1, GAPS + 1)[:, None], np.arange(GAPS + 1)
    step = np.arange(STEPS)[:, None, None]
    noise = np.exp(rng.normal(0, 0.3, (STEPS, 1, GAPS + 1)))
    change = 1e-4 * noise * gap * np.linspace(2, 0.2, STEPS)[:, None, None]
    there = (step > gap + before) | ((step == gap) & (before == 0))
    return replace(remembering, extrapolation_error=np.where(there, change, np.nan))


@pytest.fixture
def solver(seen: Profile, timed: LatencyModel, reusing: SearchSpace) -> MemorySolver:
    return MemorySolver(seen, timed, reusing)


@pytest.mark.parametrize("sharing", KINDS)
@pytest.mark.parametrize("speedup", SPEEDS)
def test_a_candidate_gives_the_speed_that_it_says(
    solver: MemorySolver, timed: LatencyModel, sharing: Sharing, speedup: float
) -> None:
    plan, found = solver.plan(sharing, speedup), solver.candidate(sharing, speedup)
    assert found.predicted_speedup >= min(speedup, solver.candidate(sharing, 90.0).predicted_speedup) * (1 - 1e-9)
    assert timed.speedup(found.schedule) == pytest.approx(solver.speedup(plan), rel=1e-6)
    np.testing.assert_array_equal(found.schedule.reused_steps(), plan.left_out())
    assert not found.schedule.reused_steps()[0]
    for table in found.schedule.rates.values():
        assert (table[:, plan.left_out()] == 0).all()
    assert 0 <= found.bound <= found.predicted_error == pytest.approx(plan.loss)


@pytest.mark.parametrize("speedup", SPEEDS)
def test_the_free_kind_is_near_the_optimum_of_the_integer_program(solver: MemorySolver, speedup: float) -> None:
    least = optimum(solver.problem, solver.budget(speedup))
    found = solver.candidate("refreshes", speedup)
    assert found.bound <= least * (1 + 1e-5)
    assert least * (1 - 1e-5) <= found.predicted_error <= least * 1.15


@pytest.fixture
def told(seen: Profile) -> Profile:
    """Residuals are the better way early in a generation, and the worse one late; both are known of the first steps."""
    error = seen.extrapolation_error
    assert error is not None
    best = np.where(np.isnan(error), np.inf, error).min(axis=2)
    factor = np.where(np.arange(STEPS) < STEPS // 2, 0.2, 5.0)[:, None]
    return replace(seen, residual_error=np.where(np.isinf(best), np.nan, best * factor))


@pytest.mark.parametrize("speedup", SPEEDS)
def test_every_window_without_its_blocks_goes_on_in_the_better_way(
    solver: MemorySolver, told: Profile, timed: LatencyModel, reusing: SearchSpace, speedup: float
) -> None:
    both = MemorySolver(told, timed, reusing)
    plan, found = both.plan("refreshes", speedup), both.candidate("refreshes", speedup)
    assert found.predicted_error <= solver.candidate("refreshes", speedup).predicted_error * 1.15
    least = optimum(both.problem, both.budget(speedup))
    assert least * (1 - 1e-5) <= found.predicted_error <= least * 1.15
    again, weights = found.schedule.residual_steps(), reusing.reuse_weights(told.levels)
    assert not solver.candidate("refreshes", speedup).schedule.residual_steps().any()
    assert told.extrapolation_error is not None
    assert told.residual_error is not None
    before = 0
    for step, (length, reused) in enumerate(zip(plan.length, plan.reused, strict=True)):
        if not reused:
            before = before if step and plan.left_out()[step] else 0
            continue
        gaps = np.arange(length)
        late = step + 1 + gaps
        extrapolated = np.sqrt(weights[late] * told.extrapolation_error[late, gaps, before]).sum() ** 2
        residual = np.sqrt(weights[late] * told.residual_error[late, gaps]).sum() ** 2
        assert (again[late] == (residual < extrapolated)).all()
        assert both.problem.reuse_loss[step, before, length - 1] == pytest.approx(min(residual, extrapolated))  # type: ignore[index]
        before = int(length)
    assert plan.left_out().any() == (found.schedule.partner is not None)


def test_leaving_blocks_out_is_only_planned_where_it_is_allowed_and_known(
    solver: MemorySolver,
    seen: Profile,
    timed: LatencyModel,
    whole: LatencyModel,
    space: SearchSpace,
    reusing: SearchSpace,
) -> None:
    assert solver.candidate("refreshes", 4.0).schedule.partner is not None
    for without in (
        MemorySolver(seen, timed, space),
        MemorySolver(seen, whole, reusing),
        MemorySolver(replace(seen, extrapolation_error=None), timed, reusing),
    ):
        assert without.candidate("refreshes", 4.0).schedule.partner is None
        assert without.attainable < solver.attainable


@pytest.mark.parametrize("speedup", [1.3, 1.8])
def test_one_kind_computes_every_step_and_is_measured_beside_the_others(
    solver: MemorySolver, seen: Profile, timed: LatencyModel, space: SearchSpace, speedup: float
) -> None:
    never = MemorySolver(seen, timed, space)
    found, same = solver.candidate("computed", speedup), never.candidate("refreshes", speedup)
    assert found.schedule.partner is None
    assert found.schedule.content_hash() == same.schedule.content_hash()
    assert found.bound <= solver.candidate("refreshes", speedup).predicted_error
    kinds = [candidate.recipe.sharing for candidate in solver.candidates(speedup)]
    assert "computed" in kinds[:FINALISTS]
    assert "computed" not in [candidate.recipe.sharing for candidate in never.candidates(speedup)]


def test_a_limit_on_memory_does_not_keep_from_leaving_blocks_out(
    seen: Profile, timed: LatencyModel, reusing: SearchSpace
) -> None:
    none = MemorySolver(seen, timed, reusing.model_copy(update={"memory_bytes": 1.0}))
    found = none.candidate("refreshes", 2.0)
    assert found.predicted_speedup >= 2.0
    assert found.schedule.actions is None


def test_what_can_be_reached_is_every_step_without_its_blocks_but_the_refreshes(
    solver: MemorySolver, timed: LatencyModel, reusing: SearchSpace
) -> None:
    full = -(-STEPS // (1 + GAPS))
    assert solver.attainable == pytest.approx(STEPS / (full + (STEPS - full) * SHARE))
    assert best_attainable_with_memory(timed, reusing) == pytest.approx(solver.attainable)


def test_leaving_blocks_out_by_hand(timed: LatencyModel, solver: MemorySolver) -> None:
    found = solver.candidate("windows", 3.0).schedule
    left_out = int(found.reused_steps().sum())
    if found.actions is None:
        expected = timed.step_seconds * (STEPS - left_out + SHARE * left_out)
        assert timed.predict(found) == pytest.approx(expected)
    assert found.planned_sites() >= BLOCKS * left_out


def test_a_search_finds_them_makes_them_again_and_keeps_them(
    seen: Profile, timed: LatencyModel, reusing: SearchSpace
) -> None:
    found = search(seen, timed, reusing, 3.0, trials=12)
    first = found.candidates[0]
    assert first.schedule.reused_steps().any()
    again = rebuild(first.recipe, seen, timed, reusing, 3.0)
    assert again.schedule.content_hash() == first.schedule.content_hash()
    kept = from_record(to_record(found)).candidates[0].schedule
    assert kept.content_hash() == first.schedule.content_hash()
