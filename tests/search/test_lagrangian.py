from __future__ import annotations

import itertools

import numpy as np
import pytest

from tuner.search.lagrangian import Problem, evaluate, fastest, frontier, relax, solve
from tuner.search.milp import solve_milp

RATES = np.array([0.0, 0.3, 0.6, 0.8])


def problem(
    seed: int, blocks: int = 2, steps: int = 5, cache_step: int = 2, matching: float = 0.1, uneven: float = 0.0
) -> Problem:
    """Every block takes `uneven` more of the first one's seconds than the block before it."""
    rng = np.random.default_rng(seed)
    losses = [np.exp(rng.normal(size=(blocks, steps, 1))) * RATES**2 for _ in range(2)]
    losses[0][0, 0, 3] = np.inf
    seconds = np.outer(1 - RATES, 1 - RATES) + 0.02 * (RATES > 0) + 0.02 * (RATES > 0)[:, None]
    scale = 1 + uneven * np.arange(blocks)
    return Problem(losses[0], losses[1], scale[:, None, None] * seconds, scale * matching, cache_step)


def test_seconds_and_losses_of_a_choice_count_matching_once_a_window() -> None:
    p = problem(0, uneven=1.0)
    choice = np.zeros((2, 5, 2), dtype=int)
    choice[0, 0, 0], choice[0, 1, 0], choice[1, 4, 1] = 1, 2, 3  # one match of Q, one of V
    found = evaluate(p, choice)
    first, second = p.seconds
    sites = first[1, 0] + first[2, 0] + 3 * first[0, 0] + second[0, 3] + 4 * second[0, 0]
    assert found.seconds == pytest.approx(sites + 0.1 + 0.2)
    assert found.loss == pytest.approx(p.loss_q[0, 0, 1] + p.loss_q[0, 1, 2] + p.loss_v[1, 4, 3])


@pytest.mark.parametrize("price", [0.0, 0.3, 2.0, 50.0])
def test_the_relaxation_is_exact_against_enumeration(price: float) -> None:
    p = problem(1, blocks=1, steps=2, cache_step=2, matching=0.4)
    pairs = list(itertools.product(range(4), repeat=2))
    options = [evaluate(p, np.array([[first, second]])) for first in pairs for second in pairs]
    best = min(option.loss + price * option.seconds for option in options)
    choice, value = relax(p, price)
    found = evaluate(p, choice)
    assert value == pytest.approx(best)
    assert found.loss + price * found.seconds == pytest.approx(best)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.45, 0.7, 0.9])
@pytest.mark.parametrize("uneven", [0.0, 0.5])
def test_bound_and_solution_enclose_the_optimum_of_the_integer_program(seed: int, share: float, uneven: float) -> None:
    p = problem(seed, blocks=4, steps=6, cache_step=3, uneven=uneven)
    budget = share * 6 * p.seconds[:, 0, 0].sum()
    found, exact = solve(p, budget), solve_milp(p, budget)
    assert found is not None
    assert exact is not None
    assert found.seconds <= budget
    assert exact.seconds <= budget + 1e-6
    assert exact.loss == pytest.approx(exact.bound, rel=1e-4)
    assert found.bound <= exact.loss * (1 + 1e-6)
    assert found.loss >= exact.loss * (1 - 1e-6)
    assert found.loss <= exact.loss * 1.2  # only 24 sites; the gap vanishes with their number


def test_the_gap_is_tiny_on_an_instance_of_real_size() -> None:
    p = problem(7, blocks=16, steps=30, cache_step=5)
    found = solve(p, 0.7 * 16 * 30)
    assert found is not None
    assert 0 <= found.gap < 2e-3


def test_impossible_and_generous_budgets() -> None:
    p = problem(3)
    least = fastest(p)
    assert solve(p, least.seconds * 0.999) is None
    tight = solve(p, least.seconds)
    assert tight is not None
    assert tight.seconds <= least.seconds * (1 + 1e-9)
    free = solve(p, 10.0)
    assert free is not None
    assert (free.loss, free.gap) == (0.0, 0.0)
    assert not free.choice.any()


def test_forbidden_rates_are_never_taken() -> None:
    p = problem(4)
    p.loss_q[:, 0, 1:] = np.inf
    p.loss_v[:, 0, 1:] = np.inf
    for budget in np.linspace(fastest(p).seconds, 9, 7):
        found = solve(p, budget)
        assert found is not None
        assert not found.choice[:, 0].any()
        assert np.isfinite(found.loss)


def test_the_frontier_falls_and_bounds_what_solve_finds() -> None:
    p = problem(5, blocks=4, steps=10, cache_step=5)
    points = frontier(p)
    assert len(points) > 8
    seconds, losses = [a.seconds for a in points], [a.loss for a in points]
    assert seconds == sorted(seconds)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] == 0
    for point in points[1:-1:4]:
        found = solve(p, point.seconds)
        assert found is not None
        assert found.loss == pytest.approx(point.loss, rel=1e-6)  # hull points are optimal
