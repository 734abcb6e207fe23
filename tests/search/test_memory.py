"""Schedules that restore with memory and broadcast: what they promise, and what a search makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asymrnr.actions import Action
from asymrnr.schedule import Schedule
from tests.search.conftest import BLOCKS
from tests.search.window_problems import optimum
from tuner.latency.model import Coefficients, LatencyModel
from tuner.profile.profile import Profile
from tuner.search.feasibility import best_attainable_with_memory
from tuner.search.losses import pooled, window_losses
from tuner.search.memory import KINDS, MemorySolver, uniform_plan
from tuner.search.paths import solve
from tuner.search.result import Sharing, Window
from tuner.search.space import SearchSpace
from tuner.search.windows import FULL

SPEEDS = (1.1, 1.3, 1.7, 2.5, 3.5)
every_kind = pytest.mark.parametrize("sharing", KINDS)


@pytest.fixture
def solver(remembering: Profile, whole: LatencyModel, space: SearchSpace) -> MemorySolver:
    return MemorySolver(remembering, whole, space)


def predicted_error(schedule: Schedule, profile: Profile, space: SearchSpace) -> float:
    """The yardstick, site by site: amplitudes add up from refresh to refresh, their squares over windows and blocks."""
    assert schedule.actions is not None
    weights, trust, total = space.step_weights(profile.levels), space.memory_trust, 0.0
    for block in range(schedule.blocks):
        refresh, amplitude = 0, 0.0
        for step in range(schedule.steps):
            action = schedule.actions[block, step]
            if action in (Action.REFRESH, Action.REDUCE):
                total += amplitude**2
                refresh, amplitude = step, 0.0
                continue
            errors = profile.broadcast_error["2x2x2"][:, step, step - refresh - 1]
            if action == Action.MEMORY:
                [index] = np.flatnonzero(profile.rates == schedule.rates["Q"][block, step])
                errors = profile.memory_error["2x2x2"][:, step, step - refresh - 1, index]
            error = errors[block] ** trust * np.exp(np.log(errors).mean()) ** (1 - trust)
            amplitude += np.sqrt(weights[step] * error)
        total += amplitude**2
    return total


def test_early_errors_are_spared_where_they_are_worth_more(
    remembering: Profile, whole: LatencyModel, space: SearchSpace
) -> None:
    solver = MemorySolver(remembering, whole, space.model_copy(update={"steering": (4.0, 0.0)}))

    def begins(sharing: Sharing) -> float:
        length = solver.plan(sharing, 1.4).length
        return float(np.average(np.arange(len(length)), weights=length))

    assert begins("early") > begins("refreshes")
    same = MemorySolver(remembering, whole, space.model_copy(update={"steering": (0.0,)}))
    assert same.plan("early", 1.4).loss == pytest.approx(solver.plan("refreshes", 1.4).loss, rel=0.05)
    for speedup in (1.2, 1.7):
        assert solver.plan("early", speedup).loss >= solver.plan("refreshes", speedup).loss
        assert solver.plan("early", speedup).seconds <= solver.budget(speedup)


@every_kind
@pytest.mark.parametrize("speedup", SPEEDS)
def test_a_candidate_gives_the_speed_and_the_error_that_it_says(
    solver: MemorySolver,
    remembering: Profile,
    whole: LatencyModel,
    space: SearchSpace,
    sharing: Sharing,
    speedup: float,
) -> None:
    plan, found = solver.plan(sharing, speedup), solver.candidate(sharing, speedup)
    assert whole.speedup(found.schedule) == pytest.approx(solver.speedup(plan), rel=1e-6)
    assert found.predicted_speedup == pytest.approx(whole.speedup(found.schedule))
    assert found.predicted_seconds == pytest.approx(whole.predict(found.schedule))
    assert found.predicted_speedup >= min(speedup, solver.candidate(sharing, 90.0).predicted_speedup) * (1 - 1e-9)
    assert found.predicted_error == pytest.approx(predicted_error(found.schedule, remembering, space))
    assert 0 <= found.bound <= found.predicted_error
    assert (found.kind, found.recipe.form, found.recipe.sharing) == (KINDS[sharing], "windows", sharing)
    assert found.kind in found.label
    assert found.schedule.seed == remembering.schedule_seed
    np.testing.assert_allclose(found.schedule.timesteps, remembering.timesteps)


@pytest.mark.parametrize("speedup", [1.1, 1.3, 2.0])
def test_the_free_kind_is_near_the_optimum_of_the_integer_program(solver: MemorySolver, speedup: float) -> None:
    least = optimum(solver.problem, solver.budget(speedup))
    found = solver.candidate("refreshes", speedup)
    assert found.bound <= least * (1 + 1e-5)
    assert least * (1 - 1e-5) <= found.predicted_error <= least * 1.1


@pytest.mark.parametrize("coefficients", [Coefficients(0.8, 3.0, 2.0, 0.9), Coefficients(1.0, 0.5, 0.0, 1.3)])
def test_the_coefficients_of_the_latency_model_are_used(
    remembering: Profile, whole: LatencyModel, space: SearchSpace, coefficients: Coefficients
) -> None:
    corrected = replace(whole, coefficients=coefficients)
    solver = MemorySolver(remembering, corrected, space)
    for candidate in solver.candidates(1.5):
        assert corrected.speedup(candidate.schedule) >= 1.5 * (1 - 1e-9)
        assert corrected.speedup(candidate.schedule) == pytest.approx(candidate.predicted_speedup)


@pytest.mark.parametrize("speedup", [*SPEEDS, 90.0])
def test_the_freest_kind_has_least_error_and_none_has_less_than_the_bound(solver: MemorySolver, speedup: float) -> None:
    found = solver.candidates(speedup)
    free = found[0]
    assert free.recipe.sharing == "refreshes"
    assert free.bound <= free.predicted_error
    for other in found[1:]:
        if speedup < 90:
            assert other.predicted_speedup >= speedup * (1 - 1e-6)
            assert free.predicted_error <= other.predicted_error * 1.02
            assert other.bound == pytest.approx(free.bound)


def test_blocks_that_are_alike_differ_only_in_what_uses_up_the_rest(solver: MemorySolver) -> None:
    """Every window has one program, but where single blocks have a gentler one."""
    free, alike = (solver.plan(sharing, 1.7) for sharing in ("refreshes", "alike"))
    common = solve(solver.problem.alike(), solver.budget(1.7))
    assert common is not None
    assert alike.length.tolist() == common.length.tolist()
    for t in np.flatnonzero(alike.length):
        losses = solver.problem.loss[:, :, t, alike.length[t] - 1]  # (programs, blocks)
        for block in range(BLOCKS):
            chosen, usual = alike.program[block, t], common.program[0, t]
            assert chosen in (FULL, usual) or losses[chosen, block] <= losses[usual, block]
    assert free.loss <= alike.loss * 1.02
    hashes = [candidate.schedule.content_hash() for candidate in solver.candidates(90.0)]
    assert len(set(hashes)) == len(hashes)


@every_kind
def test_out_of_reach_gives_the_fastest(solver: MemorySolver, sharing: Sharing) -> None:
    found = solver.candidate(sharing, 90.0)
    assert found.predicted_speedup == pytest.approx(solver.attainable)
    within = solver.candidate(sharing, found.predicted_speedup)
    assert within.predicted_speedup == pytest.approx(found.predicted_speedup)
    assert found.predicted_error == pytest.approx(within.predicted_error)


@pytest.mark.parametrize("steps", [1, 2, 5, 12])
@pytest.mark.parametrize("gaps", [1, 3, 6, 20])
def test_the_best_attainable_is_that_of_broadcasting_with_few_refreshes(
    whole: LatencyModel, space: SearchSpace, steps: int, gaps: int
) -> None:
    model = replace(whole, steps=steps)
    found = best_attainable_with_memory(model, space.model_copy(update={"memory_gaps": gaps}))
    actions = np.where(np.arange(steps) % (gaps + 1), Action.BROADCAST, Action.REFRESH)
    schedule = Schedule({"Q": np.zeros((BLOCKS, steps))}, actions=np.tile(actions, (BLOCKS, 1)))
    assert found == pytest.approx(model.speedup(schedule))


def test_what_can_be_reached_is_known_before_anything_is_profiled(
    solver: MemorySolver, whole: LatencyModel, space: SearchSpace
) -> None:
    assert solver.attainable == pytest.approx(best_attainable_with_memory(whole, space))
    assert solver.attainable == pytest.approx(max(point.speedup for point in solver.frontier()))


def test_rates_are_those_of_the_space_that_all_blocks_reach(
    remembering: Profile, whole: LatencyModel, space: SearchSpace
) -> None:
    remembering.memory_error["2x2x2"][1, :, :, -1] = np.inf
    solver = MemorySolver(remembering, whole, space.model_copy(update={"memory_rates_from": 0.4}))
    assert [(p.action.name, p.rate) for p in solver.programs] == [
        ("BROADCAST", 0.0),
        *(("MEMORY", rate) for rate in (0.4, 0.6, 0.75)),
    ]
    assert {rate for c in solver.candidates(1.3) for rate in np.unique(c.schedule.rates["Q"])} <= {0, 0.4, 0.6, 0.75}


def test_blocks_of_a_kind_have_in_common_what_it_says(solver: MemorySolver) -> None:
    def refreshes(sharing: Sharing) -> np.ndarray:
        actions = solver.candidate(sharing, 1.5).schedule.actions
        assert actions is not None
        return np.flatnonzero((actions == Action.REFRESH).any(axis=0))

    for sharing in KINDS:
        actions = solver.candidate(sharing, 1.5).schedule.actions
        assert actions is not None
        for step in refreshes(sharing):  # who does not refresh when others do has nothing to live on either
            others = actions[:, step] != Action.REFRESH
            assert (actions[others, step] == Action.REDUCE).all()
    apart = np.diff(refreshes("windows"))
    assert len(set(apart.tolist())) <= 1


def test_uniform_windows_fill_what_lead_and_tail_leave(solver: MemorySolver) -> None:
    alike = solver.problem.alike()

    def laid(gap: int, lead: int, tail: int) -> dict[int, int]:
        plan = uniform_plan(alike, Window(1, gap), lead, tail)
        assert np.array_equal(plan.program[0] == 1, plan.length > 0)
        assert np.array_equal(plan.program[0] == FULL, plan.length == 0)
        assert plan.loss == pytest.approx(sum(alike.loss[1, 0, t, n - 1] for t, n in enumerate(plan.length) if n))
        return {int(step): int(plan.length[step]) for step in np.flatnonzero(plan.length)}

    assert laid(2, 0, 0) == {0: 2, 3: 2, 6: 2, 9: 2}
    assert laid(2, 1, 0) == {1: 2, 4: 2, 7: 2, 10: 1}
    assert laid(2, 1, 1) == {1: 2, 4: 2, 7: 2}  # one step is no window
    assert laid(5, 0, 2) == {0: 5, 6: 3}
    assert laid(1, 10, 0) == {10: 1}


def test_window_losses_add_amplitudes_step_by_step() -> None:
    error = np.random.default_rng(0).random((2, 5, 3))
    losses = window_losses(error)
    for block in range(2):
        for refresh in range(5):
            amplitude = 0.0
            for gap in (1, 2, 3):
                if refresh + gap >= 5:
                    assert losses[block, refresh, gap - 1] == np.inf
                    continue
                amplitude += np.sqrt(error[block, refresh + gap, gap - 1])
                assert losses[block, refresh, gap - 1] == pytest.approx(amplitude**2)
    assert np.isinf(window_losses(error[:, :1])).all()


def test_pooling_pulls_blocks_toward_their_geometric_mean() -> None:
    error = np.exp(np.random.default_rng(0).normal(size=(3, 4, 2)))
    error[:, 0, 1] = np.inf
    np.testing.assert_allclose(pooled(error, 1.0), error)
    common = np.exp(np.log(error).mean(axis=0))
    np.testing.assert_allclose(pooled(error, 0.0), np.broadcast_to(common, error.shape))
    np.testing.assert_allclose(pooled(error, 0.5), np.sqrt(error * common))
    assert np.isinf(pooled(error, 0.5)[:, 0, 1]).all()


def test_zeros_do_not_spoil_the_others() -> None:
    error = np.array([1e-4, 0.0, 0.04]).reshape(3, 1, 1)
    found = pooled(error, 0.5)
    assert np.isfinite(found).all()
    assert (found > 0).all()
    assert found[2, 0, 0] > found[0, 0, 0] >= found[1, 0, 0]
    np.testing.assert_array_equal(pooled(np.zeros((2, 1, 1)), 0.5) <= 1.0, True)


def test_trust_decides_how_much_blocks_differ(remembering: Profile, whole: LatencyModel, space: SearchSpace) -> None:
    remembering.memory_error["2x2x2"][0] *= 100
    remembering.broadcast_error["2x2x2"][0] *= 100

    def steps_of_the_first(trust: float) -> int:
        solver = MemorySolver(remembering, whole, space.model_copy(update={"memory_trust": trust}))
        plan = solver.plan("refreshes", 1.7)
        return int(plan.length[plan.program[0] != FULL].sum())

    assert steps_of_the_first(1.0) < steps_of_the_first(0.0)


def test_the_frontier_rises(solver: MemorySolver) -> None:
    points = solver.frontier()
    assert len(points) > 10
    speedups, errors = zip(*points, strict=True)
    assert list(speedups) == sorted(set(speedups))
    assert list(errors) == sorted(set(errors))
    assert points[0] == (1.0, 0.0)
    for point in points[::5]:
        found = solver.candidate("refreshes", point.speedup)
        assert found.predicted_error == pytest.approx(point.error, rel=1e-2)
        assert found.bound <= point.error * (1 + 1e-9)
    slopes = np.diff(errors) / np.diff(1 / np.array(speedups))
    assert (np.diff(slopes) <= 1e-9).all()  # seconds get dearer
