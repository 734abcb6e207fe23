"""Which steps refresh, and what the blocks do until the next refresh: a shortest path over the steps.

With a price on seconds every block picks the cheapest program of a window by itself, and the steps are a path whose
edges are steps in full and windows, found backwards. Extrapolation looks back on two steps that were computed, so that
a place on the path is a step and how many steps were left out right before it. The best price is found by bisection,
and the dual value bounds the loss of all such schedules from below.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tuner.search.leftover import spend, tighten
from tuner.search.windows import FULL, Plan, WindowProblem, evaluate

BISECTIONS = 60
PRECISION = 1e-5
ROUNDING = 1e-12
AROUND = 3  # numbers of steps without their blocks that are tried below and above the first solution's


def relax(problem: WindowProblem, price: float, left_out: int | None = None) -> tuple[Plan, float]:
    """The plan that minimises loss + price * seconds, and that minimum.

    Args:
        problem: what there is to choose from.
        price: loss one second is worth; infinity only looks at seconds, among the windows that are allowed.
        left_out: steps in which all blocks have to be left out; None: as many as it takes.
    """
    blocks, steps, gaps = problem.loss.shape[1:]
    seconds = problem.seconds[:, :, None]
    fast, price = np.isinf(price), 1.0 if np.isinf(price) else price

    def loss_of(loss: np.ndarray) -> np.ndarray:
        return np.where(np.isfinite(loss), 0.0, np.inf) if fast else loss

    value = loss_of(problem.loss) + price * seconds
    least = value.min(axis=0)  # (blocks, steps, gaps)
    best = np.where(least < 0, value.argmin(axis=0), FULL)
    impossible = np.isinf(least.min(axis=0, initial=np.inf))  # (steps, gaps)
    edge = np.where(impossible, np.inf, np.minimum(least, 0.0).sum(axis=0))
    reuse = np.full((steps, 1, gaps), np.inf)
    if problem.reuse_loss is not None and problem.reuse_seconds is not None:
        reuse = loss_of(problem.reuse_loss) + price * problem.reuse_seconds
    length, reused, total = _cheapest(edge, reuse, left_out)
    program = np.full((blocks, steps), FULL)
    for step in np.flatnonzero((length > 0) & ~reused):
        program[:, step] = best[:, step, length[step] - 1]
    return evaluate(problem, length, program, reused), total


def _cheapest(edge: np.ndarray, reuse: np.ndarray, left_out: int | None) -> tuple[np.ndarray, np.ndarray, float]:
    """The cheapest path over the steps, found backwards.

    Args:
        edge: (steps, gaps) costs of windows by the step of their refresh, as the blocks like it best.
        reuse: (steps, before, gaps) the same where all blocks are left out, see `WindowProblem.reuse_loss`.
        left_out: see `relax`.

    Returns:
        (steps,) gap of the window that begins at a step, 0 where there is none; (steps,) bool, it leaves all blocks
        out; and the cost, inf where there is no such path.
    """
    (steps, gaps), states = edge.shape, reuse.shape[1]
    count, counts = (0, 0) if left_out is None else (left_out, 1)
    longest = min(states - 1, gaps if left_out is None else left_out)
    # From a step on, by the steps left out right before it and by those still to be left out.
    ahead = np.full((steps + gaps + 1, states, count + 1), np.inf)
    ahead[steps, :, 0] = 0.0
    chosen = np.zeros((steps, states, count + 1), dtype=int)
    for step in reversed(range(steps)):
        options = np.full((1 + 2 * gaps, states, count + 1), np.inf)  # in full, windows, windows without the blocks
        options[0] = ahead[step + 1, 0]
        options[1 : 1 + gaps] = (edge[step][:, None] + ahead[step + 2 : step + 2 + gaps, 0])[:, None]
        for gap in range(1, longest + 1):
            taken = counts * gap
            after = ahead[step + 1 + gap, gap, : count + 1 - taken]
            options[gaps + gap, :, taken:] = reuse[step, :, gap - 1, None] + after
        chosen[step], ahead[step] = options.argmin(axis=0), options.min(axis=0)
    length, reused, step, before = np.zeros(steps, dtype=int), np.zeros(steps, dtype=bool), 0, 0
    total = float(ahead[0, 0, count])
    while step < steps and np.isfinite(total):
        option = int(chosen[step, before, count])
        reused[step] = option > gaps
        length[step] = option - gaps if reused[step] else option
        before = int(length[step] * reused[step])
        count -= counts * before
        step += 1 + length[step]
    return length, reused, total


def fastest(problem: WindowProblem) -> Plan:
    """The plan that takes the fewest seconds, and of several the one of least loss."""
    quickest = relax(problem, np.inf)[0]  # one of them
    return solve(problem, quickest.seconds) or quickest


def corners(problem: WindowProblem, count: int) -> list[Plan]:
    """Plans that are best at some price on seconds, from doing nothing to the fastest one.

    Between any two the price that makes them equal shows whether there is another one (Aneja and Nair 1979); the pair
    furthest apart in seconds comes first.

    Args:
        problem: what there is to choose from.
        count: at most so many.
    """
    found = [_nothing(problem), fastest(problem)]
    pairs = [(found[0], found[1])]
    while pairs and len(found) < count:
        pairs.sort(key=lambda pair: pair[0].seconds - pair[1].seconds)
        slow, fast = pairs.pop()
        saved, lost = slow.seconds - fast.seconds, fast.loss - slow.loss
        if saved <= 0 or lost <= 0:
            continue
        price = lost / saved
        between = relax(problem, price)[0]
        if between.loss + price * between.seconds < (slow.loss + price * slow.seconds) * (1 - PRECISION) - ROUNDING:
            found.append(between)
            pairs += [(slow, between), (between, fast)]
    return sorted(found, key=lambda plan: -plan.seconds)


def solve(problem: WindowProblem, budget: float) -> Plan | None:
    """The plan of least loss within a budget, near enough, with its lower bound.

    Args:
        problem: what there is to choose from.
        budget: seconds beyond computing everything in full, negative where something has to be saved.

    Returns:
        The plan, or None when not even the fastest one fits.
    """
    if budget >= 0:
        return replace(_nothing(problem), bound=0.0)
    found = _bisect(problem, budget, None)[0]
    if found is None or problem.reuse_loss is None:
        return found
    # Steps without their blocks are few and large: the next best numbers of them may leave the rest a better fit.
    number = int(found.left_out().sum())
    plans = [found]
    for n in range(max(0, number - AROUND), number + AROUND + 1):
        plan, short = _bisect(problem, budget, n)
        fitted = None if short is None else tighten(problem, short, budget)
        plans += [each for each in (plan, fitted) if each is not None]
    best = min(plans, key=lambda plan: spend(problem, plan, budget).loss)
    return replace(best, bound=found.bound)


def _nothing(problem: WindowProblem) -> Plan:
    """Every step in full."""
    return evaluate(problem, np.zeros(problem.steps, dtype=int), np.full((problem.blocks, problem.steps), FULL))


def _bisect(problem: WindowProblem, budget: float, left_out: int | None) -> tuple[Plan | None, Plan | None]:
    """The best plan within the budget, None where there is none, and the next best that saves too little.

    Args:
        problem, budget, left_out: see `solve` and `relax`.
    """
    within, limit, short = relax(problem, np.inf, left_out)[0], budget * (1 - ROUNDING), None
    if within.seconds > limit:
        return None, None
    low, high, bound = 0.0, np.inf, 0.0
    price = max(within.loss, 1e-12) / -budget
    for _ in range(BISECTIONS):
        plan, value = relax(problem, price, left_out)
        bound = max(bound, value - price * budget)
        if plan.seconds <= limit:
            high, within = price, plan
            if plan.seconds >= budget * (1 + PRECISION):
                break
        else:
            low, short = price, plan
        if high <= low * (1 + PRECISION):
            break
        price = price * 8 if np.isinf(high) else (high / 8 if low == 0 else (low * high) ** 0.5)
    return replace(within, bound=bound), short
