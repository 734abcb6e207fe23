"""The best table of rates under a latency budget: a multiple-choice knapsack with matching costs.

Every (block, step) takes one pair (rate of queries, rate of keys and values), because attention costs their product.
A feature reduced anywhere in a cache window is matched once for that window. With a price on seconds the problem falls
apart into (block, window) pieces, each solved exactly by trying the four patterns of which features are matched; the
best price is found by bisection. The dual value bounds the loss of every schedule made of the same rates, threshold
rules included, from below.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

PATTERNS = ((False, False), (True, False), (False, True), (True, True))
BISECTIONS = 50
PRECISION = 1e-5


@dataclass(frozen=True)
class Problem:
    """One stride and cache step.

    Attributes:
        loss_q, loss_v: (blocks, steps, R) loss of every rate; the first rate is 0, inf forbids a rate.
        seconds: (blocks, R, R) attention and gathering in one step at (query rate, key and value rate).
        matching: (blocks,) seconds of matching one feature for one window.
        cache_step: length of the windows.
    """

    loss_q: np.ndarray
    loss_v: np.ndarray
    seconds: np.ndarray
    matching: np.ndarray
    cache_step: int

    @cached_property
    def losses(self) -> np.ndarray:
        """(blocks, steps, R, R) loss of every pair."""
        return self.loss_q[..., :, None] + self.loss_v[..., None, :]

    @cached_property
    def starts(self) -> np.ndarray:
        """First steps of the cache windows."""
        return np.arange(0, self.loss_q.shape[1], self.cache_step)

    def window_seconds(self, choice: np.ndarray) -> np.ndarray:
        """(blocks, windows) seconds of a choice (blocks, steps, 2) of rate indices."""
        sites = self.seconds[np.arange(len(choice))[:, None], choice[..., 0], choice[..., 1]]
        matched = np.logical_or.reduceat(choice > 0, self.starts, axis=1).sum(axis=-1)
        return np.add.reduceat(sites, self.starts, axis=1) + self.matching[:, None] * matched

    def window_losses(self, choice: np.ndarray) -> np.ndarray:
        """(blocks, windows) losses of a choice."""
        losses = [
            np.take_along_axis(loss, choice[..., feature, None], axis=2)[..., 0]
            for feature, loss in enumerate((self.loss_q, self.loss_v))
        ]
        return np.add.reduceat(losses[0] + losses[1], self.starts, axis=1)


@dataclass(frozen=True)
class Assignment:
    """A choice of rates.

    Attributes:
        choice: (blocks, steps, 2) indices into the rates, for queries and for keys and values.
        loss: its loss.
        seconds: of all sites, matching included.
        bound: no choice within the budget has less loss; minus infinity when unknown.
    """

    choice: np.ndarray
    loss: float
    seconds: float
    bound: float = -np.inf

    @property
    def gap(self) -> float:
        """How far above the bound the loss is at most, relative to the loss."""
        return (self.loss - self.bound) / self.loss if self.loss > 0 else 0.0


def relax(problem: Problem, price: float, ignore_loss: bool = False) -> tuple[np.ndarray, float]:
    """The choice that minimises loss + price * seconds, and that minimum.

    Args:
        problem: the problem.
        price: loss one second is worth.
        ignore_loss: only look at seconds, among the rates that are allowed.
    """
    losses = np.where(np.isfinite(problem.losses), 0.0, np.inf) if ignore_loss else problem.losses
    value = losses + price * problem.seconds[:, None]
    blocks, steps, n_rates, _ = value.shape
    totals, choices = [], []
    for match_q, match_v in PATTERNS:
        allowed = value[:, :, : n_rates if match_q else 1, : n_rates if match_v else 1]
        flat = allowed.reshape(blocks, steps, -1)
        best = flat.argmin(axis=-1)
        minimum = np.take_along_axis(flat, best[..., None], axis=-1)[..., 0]
        matching = price * problem.matching[:, None] * (match_q + match_v)
        totals.append(np.add.reduceat(minimum, problem.starts, axis=1) + matching)
        choices.append(np.stack(np.divmod(best, allowed.shape[3]), axis=-1))
    pattern = np.argmin(totals, axis=0)  # (blocks, windows)
    of_step = pattern[:, np.arange(steps) // problem.cache_step]
    choice = np.choose(of_step[..., None], choices)
    return choice, float(np.min(totals, axis=0).sum())


def evaluate(problem: Problem, choice: np.ndarray, bound: float = -np.inf) -> Assignment:
    """Loss and seconds of a choice."""
    loss = float(problem.window_losses(choice).sum())
    return Assignment(choice, loss, float(problem.window_seconds(choice).sum()), bound)


def fastest(problem: Problem) -> Assignment:
    """The choice with the fewest seconds, whatever its loss."""
    return evaluate(problem, relax(problem, 1.0, ignore_loss=True)[0])


def solve(problem: Problem, budget: float) -> Assignment | None:
    """The choice of least loss within a budget of seconds for all sites, near enough, with its lower bound.

    Returns:
        The assignment, or None when not even the fastest choice fits.
    """
    quickest = fastest(problem)
    if quickest.seconds > budget * (1 + 1e-12):
        return None
    free, _ = relax(problem, 0.0)
    best = evaluate(problem, free)
    if best.seconds <= budget:
        return Assignment(best.choice, best.loss, best.seconds, best.loss)
    low, high = 0.0, max(best.loss, quickest.loss, 1e-12) / max(budget, 1e-12)
    over, within, bound = free, quickest.choice, best.loss
    for _ in range(200):  # find a price at which the budget is kept
        choice, value = relax(problem, high)
        bound = max(bound, value - high * budget)
        if problem.window_seconds(choice).sum() <= budget:
            within = choice
            break
        low, over, high = high, choice, high * 4
    else:
        return _spend(problem, within, over, budget, bound)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2 if low == 0 else (low * high) ** 0.5
        choice, value = relax(problem, middle)
        bound = max(bound, value - middle * budget)
        seconds = problem.window_seconds(choice).sum()
        if seconds <= budget:
            high, within = middle, choice
            if seconds >= budget * (1 - PRECISION):
                break
        else:
            low, over = middle, choice
        if high <= low * (1 + PRECISION):
            break
    return _spend(problem, within, over, budget, bound)


def _spend(problem: Problem, within: np.ndarray, over: np.ndarray, budget: float, bound: float) -> Assignment:
    """Use up what the budget leaves: take windows from the choice just above it, best value for their seconds first."""
    spare = budget - float(problem.window_seconds(within).sum())
    gain = problem.window_losses(within) - problem.window_losses(over)
    extra = problem.window_seconds(over) - problem.window_seconds(within)
    choice = within.copy()
    candidates = np.argwhere((gain > 0) & (extra > 0))
    worth = np.array([gain[b, w] / extra[b, w] for b, w in candidates])
    for block, window in candidates[np.argsort(-worth, kind="stable")]:
        if extra[block, window] <= spare:
            spare -= extra[block, window]
            steps = slice(window * problem.cache_step, (window + 1) * problem.cache_step)
            choice[block, steps] = over[block, steps]
    return evaluate(problem, choice, bound)


def frontier(problem: Problem, points: int = 40) -> list[Assignment]:
    """The convex frontier of loss against seconds, from the fastest choice to no reduction at all."""
    quickest = fastest(problem)
    untouched = evaluate(problem, relax(problem, 0.0)[0])
    saved = untouched.seconds - quickest.seconds
    found = [quickest, untouched]
    if saved > 0:
        average = max(quickest.loss, 1e-12) / saved
        found += [evaluate(problem, relax(problem, p)[0]) for p in np.geomspace(1e-6, 1e3, points) * average]
    found.sort(key=lambda a: (a.seconds, a.loss))
    kept: list[Assignment] = []
    for assignment in found:
        if not kept or assignment.loss < kept[-1].loss:
            kept.append(assignment)
    return kept
