"""Windows by a shortest path with a price on seconds: against every plan there is, and against an integer program."""

from __future__ import annotations

import numpy as np
import pytest

from asymrnr.actions import Action
from asymrnr.schedule import Schedule
from tests.search.window_problems import every_plan, lengths, optimum, problem, random_plan
from tuner.search.leftover import spend, tighten
from tuner.search.paths import fastest, relax, solve
from tuner.search.windows import FULL, Plan, Program, WindowProblem, evaluate

TINY = [(0, 2, 1, False), (1, 3, 1, False), (2, 2, 1, True), (3, 3, 1, True), (4, 3, 1, True)]
"""Seed, gaps, rates of memory, and whether all blocks may be left out."""


def assert_sound(p: WindowProblem, plan: Plan) -> None:
    """Windows do not overlap and lie within the generation, programs are in windows, and the sums are right."""
    free = 0
    for step, length in enumerate(plan.length):
        if length:
            assert step >= free
            free = step + length + 1
            assert free <= p.steps
        else:
            assert (plan.program[:, step] == FULL).all()
            assert not plan.reused[step]
    loss, seconds = 0.0, 0.0
    for step in np.flatnonzero(plan.reused):
        assert (plan.program[:, step] == FULL).all()
        assert p.reuse_loss is not None
        assert p.reuse_seconds is not None
        ending = [s for s in np.flatnonzero(plan.reused) if s + plan.length[s] + 1 == step]
        before = plan.length[ending[0]] if ending else 0  # steps left out right before
        loss += p.reuse_loss[step, before, plan.length[step] - 1]
        seconds += p.reuse_seconds[plan.length[step] - 1]
    for block, step in np.argwhere(plan.program != FULL):
        which, gap = plan.program[block, step], plan.length[step] - 1
        loss += p.loss[which, block, step, gap]
        seconds += p.seconds[which, block, gap]
    assert plan.loss == pytest.approx(loss)
    assert plan.seconds == pytest.approx(seconds)


def test_the_tiny_problems_have_all_the_plans_that_they_should() -> None:
    assert len(list(lengths(problem(0)))) == 13  # 5 steps in pieces of 1, 2 and 3
    assert len(every_plan(problem(0))) == 1 + 7 * 8 + 5 * 8**2  # programs of two blocks in one window, and in two
    for plan in every_plan(problem(0))[::11]:
        assert_sound(problem(0), plan)


@pytest.mark.parametrize(("seed", "gaps", "memory", "reuse"), TINY)
def test_the_relaxation_is_exact_against_enumeration(seed: int, gaps: int, memory: int, reuse: bool) -> None:
    p = problem(seed, gaps=gaps, memory=memory, reuse=reuse)
    plans = every_plan(p)
    for price in (0.0, 0.1, 0.7, 2.0, 10.0, 1e4):
        plan, value = relax(p, price)
        assert_sound(p, plan)
        assert value == pytest.approx(min(other.loss + price * other.seconds for other in plans))
        assert plan.loss + price * plan.seconds == pytest.approx(value)
    plan, value = relax(p, np.inf)
    assert value == pytest.approx(min(other.seconds for other in plans)) == pytest.approx(plan.seconds)


@pytest.mark.parametrize(("seed", "gaps", "memory", "reuse"), TINY)
def test_bound_and_solution_enclose_the_best_plan_there_is(seed: int, gaps: int, memory: int, reuse: bool) -> None:
    p = problem(seed, gaps=gaps, memory=memory, reuse=reuse)
    plans, least = every_plan(p), fastest(p).seconds
    for share in (0.05, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0):
        budget = share * least
        found = solve(p, budget)
        assert found is not None
        assert_sound(p, found)
        assert found.seconds <= budget * (1 - 1e-9)
        best = min(plan.loss for plan in plans if plan.seconds <= budget * (1 - 1e-9))
        assert found.bound <= best * (1 + 1e-9)
        better = spend(p, found, budget)
        assert best * (1 - 1e-9) <= better.loss <= found.loss
    exact = solve(p, least)
    assert exact is not None
    assert exact.loss == pytest.approx(min(plan.loss for plan in plans if plan.seconds <= least * (1 - 1e-9)))


@pytest.mark.parametrize(("seed", "reuse"), [(0, False), (1, False), (2, True), (3, True)])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_bound_and_solution_enclose_the_optimum_of_the_integer_program(seed: int, reuse: bool, share: float) -> None:
    p = problem(seed, blocks=4, steps=10, gaps=3, memory=2, reuse=reuse)
    budget = share * fastest(p).seconds
    found, exact = solve(p, budget), optimum(p, budget)
    assert found is not None
    better = spend(p, found, budget)
    assert_sound(p, better)
    assert max(found.seconds, better.seconds) <= budget * (1 - 1e-9)
    assert found.bound == better.bound <= exact * (1 + 1e-5)
    assert exact * (1 - 1e-5) <= better.loss <= found.loss
    assert better.loss <= exact * 1.2  # few windows; the gap vanishes with their number


@pytest.mark.parametrize("reuse", [False, True])
def test_the_integer_program_agrees_with_enumeration(reuse: bool) -> None:
    p = problem(0, reuse=reuse)
    budget = 0.6 * fastest(p).seconds
    assert optimum(p, budget) == pytest.approx(min(plan.loss for plan in every_plan(p) if plan.seconds <= budget))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_the_gap_is_small_on_an_instance_of_real_size(share: float) -> None:
    p = problem(7, blocks=16, steps=30, gaps=6, memory=4)
    budget = share * fastest(p).seconds
    found = solve(p, budget)
    assert found is not None
    better = spend(p, found, budget)
    assert 0 < better.bound <= better.loss <= found.loss
    assert 1 - better.bound / better.loss < 0.01


@pytest.mark.parametrize("seed", range(4))
def test_the_fastest_plan_is_the_fastest_and_no_faster_one_is_found(seed: int) -> None:
    p = problem(seed, gaps=3)
    least = fastest(p)
    assert_sound(p, least)
    assert least.seconds == pytest.approx(min(plan.seconds for plan in every_plan(p)))
    assert solve(p, least.seconds * 1.001) is None


def test_of_the_fastest_plans_it_is_the_one_of_least_loss() -> None:
    p = problem(3, steps=6, gaps=1)  # three windows of two steps fill the steps
    least = fastest(p)
    rivals = [plan for plan in every_plan(p) if plan.seconds <= least.seconds * (1 - 1e-9)]
    assert least.loss == pytest.approx(min(plan.loss for plan in rivals))
    p = problem(3, steps=6, gaps=3)  # several ways, all of the same seconds
    least = fastest(p)
    rivals = [plan for plan in every_plan(p) if plan.seconds <= least.seconds * (1 - 1e-9)]
    assert len({round(plan.loss, 9) for plan in rivals}) > 1
    assert least.loss == pytest.approx(min(plan.loss for plan in rivals))


@pytest.mark.parametrize("budget", [0.0, 1.0])
def test_where_nothing_has_to_be_saved_nothing_is_done(budget: float) -> None:
    found = solve(problem(0), budget)
    assert found is not None
    assert (found.loss, found.seconds, found.bound) == (0.0, 0.0, 0.0)
    assert not found.length.any()


def test_windows_that_save_nothing_leave_everything_in_full() -> None:
    p = problem(0)
    p = WindowProblem(p.programs, p.loss, np.abs(p.seconds))
    assert not fastest(p).length.any()
    assert solve(p, -0.1) is None
    assert solve(p, 0.0) is not None


def test_windows_that_are_not_allowed_are_never_taken() -> None:
    p = problem(4, steps=8, gaps=3, memory=2)
    p.loss[:, :, 2] = np.inf  # no refresh there
    p.loss[0, 1] = np.inf  # one block never broadcasts
    for share in (0.3, 0.7, 1.0):
        found = solve(p, share * fastest(p).seconds)
        assert found is not None
        assert np.isfinite(found.loss)
        assert found.length[2] == 0
        assert not (found.program[1] == 0).any()


def test_alike_adds_up_what_all_blocks_do() -> None:
    p = problem(5, blocks=3, steps=8, gaps=3, memory=2)
    alike = p.alike()
    assert (alike.blocks, alike.steps, alike.programs) == (1, 8, p.programs)
    found = solve(alike, 0.6 * fastest(alike).seconds)
    assert found is not None
    spread = evaluate(p, found.length, np.repeat(found.program, 3, axis=0))
    assert (spread.loss, spread.seconds) == pytest.approx((found.loss, found.seconds))
    own = solve(p, found.seconds)
    assert own is not None
    assert own.bound <= found.loss


@pytest.mark.parametrize("seed", range(4))
def test_spending_stays_within_the_budget_and_only_makes_better(seed: int) -> None:
    p, rng = problem(seed, blocks=3, steps=12, gaps=4, memory=3), np.random.default_rng(seed)
    for share in (0.0, 0.1, 0.5, 1.0):
        plan = random_plan(p, rng)
        budget = (1 - share) * plan.seconds
        better = spend(p, plan, budget)
        assert_sound(p, better)
        assert better.seconds <= budget + 1e-9
        assert better.loss <= plan.loss
        np.testing.assert_array_equal(better.length, plan.length)
        assert (better.program[plan.program == FULL] == FULL).all()
        assert share == 0 or better.loss < plan.loss
    over = spend(p, plan, plan.seconds - 1)  # not within the budget: left as it is
    np.testing.assert_array_equal(over.program, plan.program)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("reuse", [False, True])
def test_tightening_saves_the_little_that_is_lacking(seed: int, reuse: bool) -> None:
    p = problem(seed, blocks=3, steps=7, gaps=2, memory=2, reuse=reuse)
    possible, changed = fastest(p).seconds, 0
    for share in (0.2, 0.4, 0.6, 0.8):
        started = solve(p, share * possible)
        assert started is not None
        assert tighten(p, started, started.seconds) == started
        budget = started.seconds + 0.03 * possible
        found = tighten(p, started, budget)
        if found is None:  # nothing is left to be changed
            continue
        assert_sound(p, found)
        assert found.seconds <= budget
        np.testing.assert_array_equal(found.reused, started.reused)
        assert optimum(p, budget) * (1 - 1e-9) <= found.loss  # how near: `test_reuse.py`
        changed += 1
    assert changed >= 2
    assert tighten(p, started, 10 * possible) is None


def test_tables_say_what_the_plan_says() -> None:
    programs = (Program(Action.BROADCAST), Program(Action.MEMORY, 0.6))
    plan = Plan(
        length=np.array([0, 2, 0, 0, 1, 0]),
        program=np.array([[FULL, 0, FULL, FULL, 1, FULL], [FULL, 1, FULL, FULL, FULL, FULL]]),
        reused=np.zeros(6, dtype=bool),
        loss=0.0,
        seconds=0.0,
    )
    rates, actions = plan.tables(programs)
    assert actions.tolist() == [[0, 1, 3, 3, 1, 2], [0, 1, 2, 2, 0, 0]]
    assert rates.tolist() == [[0, 0, 0, 0, 0, 0.6], [0, 0, 0.6, 0.6, 0, 0]]
    assert [str(program) for program in programs] == ["broadcast", "memory at Q 0.6"]


@pytest.mark.parametrize("seed", range(10))
def test_every_plan_becomes_a_schedule_with_its_windows(seed: int) -> None:
    p = problem(seed, blocks=3, steps=9, gaps=4, memory=2)
    plan = random_plan(p, np.random.default_rng(seed))
    rates, actions = plan.tables(p.programs)
    schedule = Schedule({"Q": rates}, actions=actions)
    windows = schedule.windows()
    if windows is None:
        assert (plan.program == FULL).all()
        return
    assert np.array_equal(windows.table == Action.REFRESH, plan.program != FULL)
    for block, step in np.argwhere(plan.program != FULL):
        program = p.programs[plan.program[block, step]]
        assert windows.until[block, step] == step + plan.length[step]
        assert windows.broadcast[block, step] == (program.action == Action.BROADCAST)
        assert windows.memory[block, step] == (program.action == Action.MEMORY)
        assert windows.rates["Q"][block, step] == program.rate
    doing = np.isin(windows.table, [Action.MEMORY, Action.BROADCAST])
    assert doing.sum() == (np.where(plan.program != FULL, plan.length, 0)).sum() == schedule.planned_sites()
