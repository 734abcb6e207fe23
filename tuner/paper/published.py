"""Tables of rates from a published similarity table alone: operations in place of latency, a proxy in place of errors.

Published tables say how similar the tokens of a site are, not what reducing them does to its output. The proxy is the
sum over features and sites of rate * (1 - S): it prefers to drop where tokens are alike, weighs queries like keys and
values, and is no quality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asymrnr.partition import chunk_counts
from asymrnr.schedule import Schedule
from tuner.paper.architectures import Architecture, find_architecture
from tuner.paper.counter import count_flops
from tuner.paper.schedules import Similarity, read_similarity
from tuner.search.lagrangian import Assignment, Problem, fastest, solve

PETA = 1e15
RATES = np.arange(10) / 10  # the rates of the paper's Table 8 are among them


def proxy_error(schedule: Schedule, similarity: Similarity) -> float:
    """Sum over Q, V and sites of rate * (1 - S).

    Args:
        schedule: its rates.
        similarity: standardised, (blocks, steps) by feature.
    """
    return float(sum((table * (1 - similarity[feature])).sum() for feature, table in schedule.rates.items()))


def total_flops(architecture: Architecture, schedule: Schedule | None) -> int:
    """Operations of one generation, matching included."""
    count = count_flops(architecture, schedule)
    return count.flops + count.matching_flops


@dataclass(frozen=True)
class Found:
    """A table with its exact count.

    Attributes:
        schedule: the table.
        ratio: baseline operations over its own, matching included.
        error, bound: its proxy error, and the least possible one for as few operations.
    """

    schedule: Schedule
    ratio: float
    error: float
    bound: float


class FlopsSolver:
    """Solves for one model of the paper, with the paper's stride, cache step and coverage."""

    def __init__(self, architecture: Architecture, similarity: Similarity) -> None:
        """
        Args:
            architecture: the model and its workload.
            similarity: standardised, (blocks, steps) by feature.
        """
        a = self.architecture = architecture
        self.similarity = similarity
        tokens, n_dst = int(np.prod(a.grid)), int(np.prod(chunk_counts(a.grid, a.stride, "paper")))
        self.rates = RATES[1 - n_dst / tokens >= RATES]
        kept = (tokens * (1 - self.rates)).astype(np.int64) + a.attended_text
        site = 4 * a.cfg_batches * a.width * kept[:, None] * kept / PETA
        matching = 2 * a.cfg_batches * a.width * (tokens - n_dst) * n_dst / PETA
        losses = {f: (1 - similarity[f])[..., None] * self.rates for f in ("Q", "V")}
        sites, matchings = np.tile(site, (len(a.blocks), 1, 1)), np.full(len(a.blocks), matching)
        self.problem = Problem(losses["Q"], losses["V"], sites, matchings, a.cache_step)
        self.baseline = total_flops(a, None)
        self._rest = self.baseline / PETA - len(a.blocks) * a.steps * site[0, 0]

    @property
    def best_attainable(self) -> float:
        """Highest ratio of operations that any table of these rates reaches."""
        return self._found(fastest(self.problem)).ratio

    def solve(self, ratio: float) -> Found | None:
        """The table of least proxy error with so many times fewer operations; None where out of reach."""
        assignment = solve(self.problem, self.baseline / PETA / ratio - self._rest)
        return None if assignment is None else self._found(assignment)

    def _found(self, assignment: Assignment) -> Found:
        a = self.architecture
        rates = self.rates[assignment.choice]
        schedule = Schedule(
            rates={"Q": rates[..., 0], "V": rates[..., 1]},
            stride=a.stride,
            cache_step=a.cache_step,
            coverage="paper",
            form="table",
        )
        ratio = self.baseline / total_flops(a, schedule)
        return Found(schedule, ratio, proxy_error(schedule, self.similarity), max(0.0, assignment.bound))


@dataclass(frozen=True)
class Published:
    """The answer to several targets.

    Attributes:
        model: name of the model.
        solver: what solved them.
        found: by target; None where it is out of reach.
    """

    model: str
    solver: FlopsSolver
    found: dict[float, Found | None]


def solve_table(similarity: Path, model: str, targets: Sequence[float]) -> Published:
    """Solve every target by operations.

    Args:
        similarity: published similarity table of the model.
        model: one of the paper's five.
        targets: how many times fewer operations are wanted, matching included; each above 1.

    Raises:
        UsageError: the model or the table cannot be used.
    """
    architecture = find_architecture(model)
    solver = FlopsSolver(architecture, read_similarity(similarity, architecture))
    return Published(model, solver, {target: solver.solve(target) for target in targets})
