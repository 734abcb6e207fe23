"""The Lagrangian solution and bound of the rate table against scipy's integer programming (HiGHS).

    python benchmarks/bound.py

60 blocks x 50 steps, 6 rates of queries and of keys and values, so 36 items a site; windows of 5 steps. HiGHS stops
at a time limit: where it does, the true factor is larger than the one reported, and its bound is given. The gap is
our loss over our own bound, which needs no integer program. On the CPU. Writes `benchmarks/results/bound.json`.
"""

from __future__ import annotations

import numpy as np
from rich.progress import track
from timing import Row, compare, judge, parse_arguments, report, time_interleaved

from tuner.search.lagrangian import Assignment, Problem, solve
from tuner.search.milp import solve_milp

SIZE, QUICK_SIZE = (60, 50), (4, 10)
RATES = np.array([0.0, 0.2, 0.4, 0.6, 0.75, 0.875])
CACHE_STEP = 5
MATCHING = 0.1  # cost of one matching, in attention calls without reduction
GATHERING = 0.02
SHARES = (0.5, 0.7, 0.9)  # of the unreduced time
TIME_LIMIT, QUICK_TIME_LIMIT = 30.0, 5.0  # seconds of HiGHS
SPEED_TARGET = 1 / 100
GAP_TARGET = 1e-3


def make_problem(blocks: int, steps: int) -> Problem:
    """Losses that grow with the square of the rate, by a log-normal factor a site."""
    rng = np.random.default_rng(0)
    loss_q, loss_v = (np.exp(rng.normal(size=(blocks, steps, 1))) * RATES**2 for _ in range(2))
    gathering = GATHERING * (RATES > 0)
    seconds = np.outer(1 - RATES, 1 - RATES) + gathering + gathering[:, None]
    return Problem(loss_q, loss_v, np.tile(seconds, (blocks, 1, 1)), np.full(blocks, MATCHING), CACHE_STEP)


def measure(share: float, size: tuple[int, int], time_limit: float, rounds: int) -> list[Row]:
    """Rows of one budget."""
    problem = make_problem(*size)
    budget = share * size[0] * size[1]
    found: dict[str, Assignment | None] = {}

    def lagrangian() -> None:
        found["ours"] = solve(problem, budget)

    def integer_program() -> None:
        found["milp"] = solve_milp(problem, budget, time_limit)

    times = time_interleaved({"ours": lagrangian, "milp": integer_program}, rounds)
    ours, exact = found["ours"], found["milp"]
    assert ours is not None  # the fastest choice is far within every budget here
    case = f"{size[0]} x {size[1]} sites x {len(RATES) ** 2} items, budget {share:.0%}"
    speed = compare(case, times["ours"], "milp", times["milp"], SPEED_TARGET)
    if times["milp"].median >= time_limit:
        speed["text"] += " (stopped)"
    text = f"loss {ours.loss:.6g}, bound {ours.bound:.6g}"
    if exact is not None:
        text += f"; milp loss {exact.loss:.6g}, bound {exact.bound:.6g}"
    return [speed, judge(case, "gap", ours.gap, GAP_TARGET, text)]


def main() -> None:
    arguments = parse_arguments(__doc__, "bound", rounds=2, cpu_only=True)
    size, limit = (QUICK_SIZE, QUICK_TIME_LIMIT) if arguments.quick else (SIZE, TIME_LIMIT)
    rows: list[Row] = []
    for share in track(SHARES, description="bound"):
        rows += measure(share, size, limit, arguments.rounds)
    report(rows, arguments, [])


if __name__ == "__main__":
    main()
