"""Which steps refresh, and what the blocks do until the next refresh: a shortest path over the steps.

A *window* is a refresh of all blocks and the steps that live on what it kept, where every block restores with memory at
one rate, broadcasts, or still computes in full, or where the whole denoiser is left out and what it gave is
extrapolated. All blocks refresh together: one that refreshed while others live on memory would keep what they got wrong
(on the embedded model that is worth 1 to 5 dB). What a window gets wrong points the same way, because it grows with the
distance from one refresh, so that amplitudes add up within a window of a block, and squares over windows and blocks.

With a price on seconds every block picks the cheapest program of a window by itself, and the steps are a path whose
edges are steps in full and windows, found backwards. Extrapolation looks back on two steps that were computed, so that
a place on the path is a step and how many steps were left out right before it. The best price is found by bisection,
and the dual value bounds the loss of all such schedules from below.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from asymrnr.actions import Action

BISECTIONS = 60
PRECISION = 1e-5
ROUNDING = 1e-12
AROUND = 3  # numbers of steps without their blocks that are tried below and above the first solution's
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
        reuse_loss: (steps, before, gaps) of the windows in which all blocks are left out, by how many steps were left
            out right before their first step, which is computed; None where that is not allowed.
        reuse_seconds: (gaps,) of them, likewise.
    """

    programs: tuple[Program, ...]
    loss: np.ndarray
    seconds: np.ndarray
    reuse_loss: np.ndarray | None = None
    reuse_seconds: np.ndarray | None = None

    @property
    def blocks(self) -> int:
        return self.loss.shape[1]

    @property
    def steps(self) -> int:
        return self.loss.shape[2]

    def alike(self) -> WindowProblem:
        """The same with all blocks doing the same: one block with the losses and seconds of all."""
        loss, seconds = (x.sum(axis=1, keepdims=True) for x in (self.loss, self.seconds))
        return replace(self, loss=loss, seconds=seconds)

    def reuse(self, length: np.ndarray, reused: np.ndarray) -> tuple[float, float]:
        """Loss and seconds of the windows of a plan in which all blocks are left out."""
        steps = np.flatnonzero(reused)
        if not len(steps):
            return 0.0, 0.0
        assert self.reuse_loss is not None
        assert self.reuse_seconds is not None
        gap, before = length[steps] - 1, np.zeros(len(length), dtype=int)
        after = steps + length[steps] + 1
        there = after < len(length)
        before[after[there]] = length[steps[there]]
        return float(self.reuse_loss[steps, before[steps], gap].sum()), float(self.reuse_seconds[gap].sum())


@dataclass(frozen=True)
class Plan:
    """What is done.

    Attributes:
        length: (steps,) steps that the window goes on for whose refresh is at a step, 0 where there is none.
        program: (blocks, steps) index of what the blocks do in that window; `FULL` also where there is none.
        reused: (steps,) bool, in that window all blocks are left out, whatever `program` says, which is `FULL`.
        loss, seconds: of all windows.
        bound: no plan within the budget has less loss; minus infinity when unknown.
    """

    length: np.ndarray
    program: np.ndarray
    reused: np.ndarray
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

    def left_out(self) -> np.ndarray:
        """(steps,) bool, all blocks are left out at the step."""
        found = np.zeros(len(self.length), dtype=bool)
        for step in np.flatnonzero(self.reused):
            found[step + 1 : step + self.length[step] + 1] = True
        return found


def evaluate(
    problem: WindowProblem,
    length: np.ndarray,
    program: np.ndarray,
    reused: np.ndarray | None = None,
    bound: float = -np.inf,
) -> Plan:
    """Loss and seconds of a plan, see `Plan`; without `reused` no window leaves all blocks out."""
    reused = np.zeros(problem.steps, dtype=bool) if reused is None else reused
    block, step = np.nonzero(program != FULL)
    which, gap = program[block, step], length[step] - 1
    loss, seconds = problem.reuse(length, reused)
    loss += float(problem.loss[which, block, step, gap].sum())
    seconds += float(problem.seconds[which, block, gap].sum())
    return Plan(length, program, reused, loss, seconds, bound)


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
    found = _bisect(problem, budget, None)
    if found is None or problem.reuse_loss is None:
        return found
    # Steps without their blocks are few and large: the next best numbers of them may leave the rest a better fit.
    number = int(found.left_out().sum())
    tried = (_bisect(problem, budget, n) for n in range(max(0, number - AROUND), number + AROUND + 1))
    plans = [found, *(plan for plan in tried if plan is not None)]
    best = min(plans, key=lambda plan: spend(problem, plan, budget).loss)
    return replace(best, bound=found.bound)


def _bisect(problem: WindowProblem, budget: float, left_out: int | None) -> Plan | None:
    """See `solve` and `relax`."""
    within, limit = relax(problem, np.inf, left_out)[0], budget * (1 - ROUNDING)
    if within.seconds > limit:
        return None
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
    return evaluate(problem, plan.length, program, plan.reused, plan.bound)
