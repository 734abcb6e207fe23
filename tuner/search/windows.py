"""Which steps refresh, and what the blocks do until the next refresh: a shortest path over the steps.

A *window* is a refresh of all blocks and the steps that live on what it kept, where every block restores with memory at
one rate, broadcasts, or still computes in full. All blocks refresh together: one that refreshed while others live on
memory would keep what they got wrong (on the embedded model that is worth 1 to 5 dB). What a window gets wrong points
the same way, because it grows with the distance from one refresh, so that amplitudes add up within a window of a block,
and squares over windows and blocks.

With a price on seconds every block picks the cheapest program of a window by itself, and the steps are a path whose
edges are steps in full and windows, found backwards. The best price is found by bisection, and the dual value bounds
the loss of all such schedules from below.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from asymrnr.actions import Action

BISECTIONS = 60
PRECISION = 1e-5
ROUNDING = 1e-12
FULL = -1


@dataclass(frozen=True)
class Program:
    """What a block does in a window after the refresh.

    Attributes:
        action: MEMORY or BROADCAST.
        rate: of the queries.
    """

    action: Action
    rate: float = 0.0

    def __str__(self) -> str:
        return "broadcast" if self.action == Action.BROADCAST else f"memory at Q {self.rate:g}"


@dataclass(frozen=True)
class WindowProblem:
    """Blocks, steps, and the windows there may be.

    Attributes:
        programs: what blocks may do in windows.
        loss: (programs, blocks, steps, gaps) in the window whose refresh is at a step and which goes on for 1, 2, ...
            further steps; inf where there is no such window.
        seconds: (programs, blocks, gaps) of such a window beyond what its steps take in full; negative where it saves.
    """

    programs: tuple[Program, ...]
    loss: np.ndarray
    seconds: np.ndarray

    @property
    def blocks(self) -> int:
        return self.loss.shape[1]

    @property
    def steps(self) -> int:
        return self.loss.shape[2]

    def alike(self) -> WindowProblem:
        """The same with all blocks doing the same: one block with the losses and seconds of all."""
        return WindowProblem(self.programs, *(x.sum(axis=1, keepdims=True) for x in (self.loss, self.seconds)))


@dataclass(frozen=True)
class Plan:
    """What is done.

    Attributes:
        length: (steps,) steps that the window goes on for whose refresh is at a step, 0 where there is none.
        program: (blocks, steps) index of what the blocks do in that window; `FULL` also where there is none.
        loss, seconds: of all windows.
        bound: no plan within the budget has less loss; minus infinity when unknown.
    """

    length: np.ndarray
    program: np.ndarray
    loss: float
    seconds: float
    bound: float = -np.inf

    def tables(self, programs: tuple[Program, ...]) -> tuple[np.ndarray, np.ndarray]:
        """(blocks, steps) rates of the queries, and actions."""
        rates, actions = np.zeros(self.program.shape), np.zeros(self.program.shape, dtype=np.int8)
        for block, step in np.argwhere(self.program != FULL):
            program, last = programs[self.program[block, step]], step + self.length[step]
            actions[block, step] = Action.REFRESH
            actions[block, step + 1 : last + 1] = program.action
            rates[block, step + 1 : last + 1] = program.rate
        return rates, actions


def evaluate(problem: WindowProblem, length: np.ndarray, program: np.ndarray, bound: float = -np.inf) -> Plan:
    """Loss and seconds of a plan, see `Plan`."""
    block, step = np.nonzero(program != FULL)
    which, gap = program[block, step], length[step] - 1
    loss, seconds = problem.loss[which, block, step, gap].sum(), problem.seconds[which, block, gap].sum()
    return Plan(length, program, float(loss), float(seconds), bound)


def relax(problem: WindowProblem, price: float) -> tuple[Plan, float]:
    """The plan that minimises loss + price * seconds, and that minimum.

    Args:
        problem: what there is to choose from.
        price: loss one second is worth; infinity only looks at seconds, among the windows that are allowed.
    """
    blocks, steps, gaps = problem.loss.shape[1:]
    seconds = problem.seconds[:, :, None]
    loss, price = (np.where(np.isfinite(problem.loss), 0.0, np.inf), 1.0) if np.isinf(price) else (problem.loss, price)
    value = loss + price * seconds
    least = value.min(axis=0)  # (blocks, steps, gaps)
    best = np.where(least < 0, value.argmin(axis=0), FULL)
    impossible = np.isinf(least.min(axis=0, initial=np.inf))  # (steps, gaps)
    edge = np.where(impossible, np.inf, np.minimum(least, 0.0).sum(axis=0))
    ahead = np.full(steps + gaps + 1, np.inf)  # from a step on
    ahead[steps] = 0.0
    chosen = np.zeros(steps, dtype=int)
    for step in reversed(range(steps)):
        options = np.append(ahead[step + 1], edge[step] + ahead[step + 2 : step + 2 + gaps])  # in full, or windows
        chosen[step] = options.argmin()
        ahead[step] = options[chosen[step]]
    length, program = np.zeros(steps, dtype=int), np.full((blocks, steps), FULL)
    step = 0
    while step < steps:
        if chosen[step]:
            length[step] = chosen[step]
            program[:, step] = best[:, step, chosen[step] - 1]
        step += 1 + chosen[step]
    return evaluate(problem, length, program), float(ahead[0])


def fastest(problem: WindowProblem) -> Plan:
    """The plan that takes the fewest seconds, and of several the one of least loss."""
    quickest = relax(problem, np.inf)[0]  # one of them
    return solve(problem, quickest.seconds) or quickest


def solve(problem: WindowProblem, budget: float) -> Plan | None:
    """The plan of least loss within a budget, near enough, with its lower bound.

    Args:
        problem: what there is to choose from.
        budget: seconds beyond computing everything in full, negative where something has to be saved.

    Returns:
        The plan, or None when not even the fastest one fits.
    """
    if budget >= 0:
        nothing = np.zeros(problem.steps, dtype=int), np.full((problem.blocks, problem.steps), FULL)
        return evaluate(problem, *nothing, bound=0.0)
    within, limit = relax(problem, np.inf)[0], budget * (1 - ROUNDING)
    if within.seconds > limit:
        return None
    low, high, bound = 0.0, np.inf, 0.0
    price = max(within.loss, 1e-12) / -budget
    for _ in range(BISECTIONS):
        plan, value = relax(problem, price)
        bound = max(bound, value - price * budget)
        if plan.seconds <= limit:
            high, within = price, plan
            if plan.seconds >= budget * (1 + PRECISION):
                break
        else:
            low = price
        if high <= low * (1 + PRECISION):
            break
        price = price * 8 if np.isinf(high) else (high / 8 if low == 0 else (low * high) ** 0.5)
    return replace(within, bound=bound)


def spend(problem: WindowProblem, plan: Plan, budget: float) -> Plan:
    """Use up what a budget leaves: blocks take gentler programs in single windows, best value for their seconds first.

    Args:
        problem: what there is to choose from.
        plan: within the budget, or what comes closest to it.
        budget: see `solve`.
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
    return evaluate(problem, plan.length, program, plan.bound)
