"""Which steps refresh, and what every block does until the next refresh: a shortest path for every block.

A *window* is a refresh and the steps that live on what it kept: all restore with memory at one rate, or all broadcast.
What they get wrong points the same way, because it grows with the distance from one refresh, so that amplitudes add up
within a window and squares over windows and blocks. (On the embedded model a window of n such steps moves the latents
n^2 times as far, squared, as one step does; docs/memory.md.) With a price on seconds the steps of a block are a path
whose edges are steps in full and windows; the cheapest one is found backwards. The best price is found by bisection,
and the dual value bounds the loss of every schedule of such windows from below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asymrnr.actions import Action

BISECTIONS = 60
PRECISION = 1e-5
FULL = -1


@dataclass(frozen=True)
class Program:
    """What the steps of a window do after its refresh.

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
        programs: what windows may do.
        loss: (programs, blocks, steps, gaps) of the window whose refresh is at a step and which goes on for 1, 2, ...
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
        return WindowProblem(
            self.programs, self.loss.sum(axis=1, keepdims=True), self.seconds.sum(axis=1, keepdims=True)
        )


@dataclass(frozen=True)
class Paths:
    """What every block does.

    Attributes:
        program: (blocks, steps) index of the program of the window that a step refreshes for, `FULL` elsewhere.
        length: (blocks, steps) steps that the window goes on for, 0 where there is none.
        loss, seconds: (blocks,) of all windows.
        bound: no paths within the budget have less loss in all; minus infinity when unknown.
    """

    program: np.ndarray
    length: np.ndarray
    loss: np.ndarray
    seconds: np.ndarray
    bound: float = -np.inf

    def tables(self, programs: tuple[Program, ...]) -> tuple[np.ndarray, np.ndarray]:
        """(blocks, steps) rates of the queries, and actions."""
        rates, actions = np.zeros(self.program.shape), np.zeros(self.program.shape, dtype=np.int8)
        for block, step in np.argwhere(self.program != FULL):
            program, last = programs[self.program[block, step]], step + self.length[block, step]
            actions[block, step] = Action.REFRESH
            actions[block, step + 1 : last + 1] = program.action
            rates[block, step + 1 : last + 1] = program.rate
        return rates, actions


def relax(problem: WindowProblem, price: float) -> tuple[Paths, float]:
    """The paths that minimise loss + price * seconds, and that minimum.

    Args:
        problem: what there is to choose from.
        price: loss one second is worth; infinity only looks at seconds, among the windows that are allowed.
    """
    blocks, steps, gaps = problem.blocks, problem.steps, problem.loss.shape[3]
    if np.isinf(price):
        value = np.where(np.isfinite(problem.loss), problem.seconds[:, :, None], np.inf)
    else:
        value = problem.loss + price * problem.seconds[:, :, None]
    best_program = value.argmin(axis=0)  # (blocks, steps, gaps)
    edge = value.min(axis=0)
    ahead = np.full((blocks, steps + gaps + 1), np.inf)  # from a step on
    ahead[:, steps] = 0.0
    chosen = np.zeros((blocks, steps), dtype=int)
    for step in reversed(range(steps)):
        options = np.concatenate(
            [ahead[:, step + 1, None], edge[:, step] + ahead[:, step + 2 : step + 2 + gaps]], axis=1
        )  # in full, or a window of so many further steps
        chosen[:, step] = options.argmin(axis=1)
        ahead[:, step] = options.min(axis=1)
    program, length = np.full((blocks, steps), FULL), np.zeros((blocks, steps), dtype=int)
    for block in range(blocks):
        step = 0
        while step < steps:
            gap = chosen[block, step]
            if gap:
                program[block, step], length[block, step] = best_program[block, step, gap - 1], gap
            step += 1 + gap
    return evaluate(problem, program, length), float(ahead[:, 0].sum())


def evaluate(problem: WindowProblem, program: np.ndarray, length: np.ndarray, bound: float = -np.inf) -> Paths:
    """Loss and seconds of paths, see `Paths`."""
    block, step = np.nonzero(program != FULL)
    which, gap = program[block, step], length[block, step] - 1
    loss, seconds = np.zeros(problem.blocks), np.zeros(problem.blocks)
    np.add.at(loss, block, problem.loss[which, block, step, gap])
    np.add.at(seconds, block, problem.seconds[which, block, gap])
    return Paths(program, length, loss, seconds, bound)


def fastest(problem: WindowProblem) -> Paths:
    """The paths that take the fewest seconds, whatever their loss."""
    return relax(problem, np.inf)[0]


def solve(problem: WindowProblem, budget: float) -> Paths | None:
    """The paths of least loss within a budget, near enough, with its lower bound.

    Args:
        problem: what there is to choose from.
        budget: seconds beyond computing everything in full, so negative.

    Returns:
        The paths, or None when not even the fastest ones fit.
    """
    within = fastest(problem)
    if within.seconds.sum() > budget * (1 - 1e-12):
        return None
    over, _ = relax(problem, 0.0)
    if over.seconds.sum() <= budget:
        return evaluate(problem, over.program, over.length, float(over.loss.sum()))
    low, high, bound = 0.0, np.inf, float(over.loss.sum())
    price = max(float(within.loss.sum()), 1e-12) / -budget
    for _ in range(BISECTIONS):
        paths, value = relax(problem, price)
        bound = max(bound, value - price * budget)
        if paths.seconds.sum() <= budget:
            high, within = price, paths
            if within.seconds.sum() >= budget * (1 + PRECISION):
                break
        else:
            low, over = price, paths
        if high <= low * (1 + PRECISION):
            break
        price = price * 8 if np.isinf(high) else (high / 8 if low == 0 else (low * high) ** 0.5)
    return _spend(problem, within, over, budget, bound)


def _spend(problem: WindowProblem, within: Paths, over: Paths, budget: float, bound: float) -> Paths:
    """Use up what the budget leaves: blocks take the gentler path, best value for their seconds first."""
    spare = budget - float(within.seconds.sum())
    gain, extra = within.loss - over.loss, over.seconds - within.seconds
    program, length = within.program.copy(), within.length.copy()
    candidates = np.flatnonzero((gain > 0) & (extra > 0))
    for block in candidates[np.argsort(-gain[candidates] / extra[candidates], kind="stable")]:
        if extra[block] <= spare:
            spare -= extra[block]
            program[block], length[block] = over.program[block], over.length[block]
    return evaluate(problem, program, length, bound)
