"""Table schedules: the Lagrangian solution for one stride, cache step, exponent and protection, as a schedule."""

from __future__ import annotations

from typing import Any

import numpy as np

from asymrnr.schedule import Schedule
from tuner.latency.model import LatencyModel
from tuner.search.error import ErrorModel
from tuner.search.lagrangian import Assignment, Problem, fastest, frontier, solve
from tuner.search.result import FrontierPoint
from tuner.search.trust import Trust
from tuner.strides import parse_stride


class TableSolver:
    """Solves and remembers; the same question is asked again by many trials.

    Attributes:
        errors: predicts errors, p = 2.
        model: predicts seconds.
    """

    def __init__(self, errors: ErrorModel, model: LatencyModel) -> None:
        self.errors = errors
        self.model = model
        self._solved: dict[tuple[Any, ...], tuple[Assignment, bool]] = {}

    def problem(self, stride: str, cache_step: int, exponent: float = 2.0, first: int = 0, last: int = 0) -> Problem:
        """The knapsack; the `first` and `last` steps are not to be reduced."""
        loss_q, loss_v = (loss.copy() for loss in self.errors.losses(stride, cache_step, exponent))
        for loss in (loss_q, loss_v):
            loss[:, :first, 1:] = np.inf
            loss[:, loss.shape[1] - last :, 1:] = np.inf
        rates = self.errors.profile.rates
        seconds = self.model.site_seconds(rates[None, :, None], rates)
        return Problem(loss_q, loss_v, seconds, self.model.matching_seconds(stride), cache_step)

    def assign(
        self, target_speedup: float, stride: str, cache_step: int, exponent: float = 2.0, first: int = 0, last: int = 0
    ) -> tuple[Assignment, bool]:
        """The best assignment and whether it meets the target; the fastest one when none does."""
        key = (target_speedup, stride, cache_step, exponent, first, last)
        if key not in self._solved:
            problem = self.problem(stride, cache_step, exponent, first, last)
            solution = solve(problem, self.model.sites_budget(target_speedup))
            self._solved[key] = (fastest(problem), False) if solution is None else (solution, True)
        return self._solved[key]

    def schedule(self, assignment: Assignment, stride: str, cache_step: int) -> Schedule:
        """The assignment as a schedule for the profiled sampler and destinations."""
        profile = self.errors.profile
        rates = profile.rates[assignment.choice]
        return Schedule(
            rates={"Q": rates[..., 0], "V": rates[..., 1]},
            stride=parse_stride(stride),
            cache_step=cache_step,
            timesteps=tuple(profile.timesteps.tolist()),
            seed=profile.schedule_seed,
            form="table",
        )

    def bound(self, target_speedup: float, pairs: list[tuple[str, int]]) -> float:
        """Least possible predicted error at the target, over (stride, cache step) pairs; inf when none reaches it."""
        bounds = [np.inf]
        for stride, cache_step in pairs:
            assignment, met = self.assign(target_speedup, stride, cache_step)
            if met:
                bounds.append(max(0.0, assignment.bound))
        return float(min(bounds))

    def frontier(self, pairs: list[tuple[str, int]]) -> list[FrontierPoint]:
        """Predicted error against speed-up over all (stride, cache step) pairs; see `undominated`."""
        points = []
        for stride, cache_step in pairs:
            for assignment in frontier(self.problem(stride, cache_step)):
                speedup = self.model.baseline_seconds / self.model.seconds(assignment.seconds)
                points.append(FrontierPoint(speedup, assignment.loss))
        return undominated(points)


def table_kind(stride: str, trust: Trust) -> str:
    """What makes two tables different in more than detail, in words."""
    return f"table, stride {stride}, {trust}"


def undominated(points: list[FrontierPoint]) -> list[FrontierPoint]:
    """Those that no other point beats in both speed-up and error, slowest first."""
    kept: list[FrontierPoint] = []
    for point in sorted(points, key=lambda p: (-p.speedup, p.error)):
        if not kept or point.error < kept[-1].error:
            kept.append(point)
    return kept[::-1]
