"""What a plan leaves of a budget, or lacks of it: single blocks do less or more until it fits."""

from __future__ import annotations

import numpy as np

from tuner.search.windows import FULL, Plan, WindowProblem, evaluate


def spend(problem: WindowProblem, plan: Plan, budget: float) -> Plan:
    """Use up what a budget leaves: blocks take gentler programs in single windows, best value for their seconds first.

    Args:
        problem: what there is to choose from.
        plan: within the budget, or what comes closest to it.
        budget: see `tuner.search.paths.solve`.
    """
    program, spare = plan.program.copy(), budget - plan.seconds
    block, step = np.nonzero(program != FULL)
    which, gap = program[block, step], plan.length[step] - 1
    none = np.zeros((1, len(block)))
    loss = np.concatenate([problem.loss[:, block, step, gap], none])  # (programs and in full, block windows)
    seconds = np.concatenate([problem.seconds[:, block, gap], none])
    now = np.arange(len(block))
    gain, extra = loss[which, now] - loss, seconds - seconds[which, now]
    worth = np.where((gain > 0) & (extra > 0), gain / np.maximum(extra, 1e-300), 0.0)
    taken = np.zeros(len(block), dtype=bool)
    for flat in np.argsort(-worth, axis=None, kind="stable"):
        option, window = np.unravel_index(flat, worth.shape)
        if worth[option, window] <= 0:
            break
        if not taken[window] and extra[option, window] <= spare:
            taken[window] = True
            spare -= extra[option, window]
            program[block[window], step[window]] = FULL if option == len(problem.programs) else option
    return evaluate(problem, plan.length, program, plan.reused, plan.bound)


def tighten(problem: WindowProblem, plan: Plan, budget: float) -> Plan | None:
    """Save what a plan lacks of a budget: blocks do more in its windows, or in new ones between them.

    Every time the change of least loss for its seconds, as far as they are needed. Blocks that are left out stay so.

    Args:
        problem: what there is to choose from.
        plan: takes too long.
        budget: see `tuner.search.paths.solve`.

    Returns:
        The plan within the budget; None where nothing more can be saved.
    """
    while plan.seconds > budget:
        best = min(_changes(problem, plan, plan.seconds - budget), key=lambda change: change[0], default=None)
        if best is None:
            return None
        _, start, length, column = best
        lengths, program = plan.length.copy(), plan.program.copy()
        lengths[start], program[:, start] = length, column
        plan = evaluate(problem, lengths, program, plan.reused, plan.bound)
    return plan


def _changes(problem: WindowProblem, plan: Plan, lacking: float) -> list[tuple[float, int, int, np.ndarray]]:
    """Loss for a second that is needed, first step, length and (blocks,) programs of windows that may be changed so."""
    steps, gaps = problem.loss.shape[2:]
    taken = np.zeros(steps + 1, dtype=bool)
    for first in np.flatnonzero(plan.length):
        taken[first : first + plan.length[first] + 1] = True
    windows = [(int(s), int(plan.length[s])) for s in np.flatnonzero(plan.length) if not plan.reused[s]]
    windows += [
        (start, gap)
        for start in range(steps)
        for gap in range(1, min(gaps, steps - 1 - start) + 1)
        if not taken[start : start + gap + 1].any()
    ]
    found: list[tuple[float, int, int, np.ndarray]] = []
    for start, length in windows:
        now, index = plan.program[:, start], np.arange(problem.blocks)
        loss, saved = problem.loss[:, :, start, length - 1], -problem.seconds[:, :, length - 1]  # (programs, blocks)
        none = now == FULL
        more = loss - np.where(none, 0.0, loss[now, index])
        further = saved - np.where(none, 0.0, saved[now, index])
        rate = np.where(further > 0, np.maximum(more, 0.0) / np.maximum(further, 1e-300), np.inf)
        choice = rate.argmin(axis=0)
        each, column, gained, cost = rate[choice, index], now.copy(), 0.0, 0.0
        for block in np.argsort(each, kind="stable"):
            if np.isinf(each[block]) or gained >= lacking:
                break
            column[block] = choice[block]
            gained, cost = gained + further[choice[block], block], cost + more[choice[block], block]
        if gained > 0:
            found.append((cost / min(gained, lacking), start, length, column))
    return found
