"""Tables of rates from a published similarity table alone: operations in place of latency, a proxy in place of errors.

Published tables say how similar the tokens of a site are, not what reducing them does to its output. The proxy is the
sum over features and sites of rate * (1 - S): it prefers to drop where tokens are alike, weighs queries like keys and
values, and is no quality.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from asymrnr.artifact import Artifact, PredictionSection, ProvenanceSection, ScheduleSection
from asymrnr.artifact_io import save_artifact
from asymrnr.partition import chunk_counts
from asymrnr.schedule import Schedule
from asymrnr.shipped import load, load_shipped
from tuner.commands.solve import check_targets, make_folder
from tuner.errors import InfeasibleError
from tuner.latency.preflight import FRONTIER_FILE
from tuner.package import file_name
from tuner.paper.architectures import Architecture, find_architecture
from tuner.paper.counter import count_flops
from tuner.paper.schedules import Similarity, read_similarity
from tuner.search.lagrangian import Assignment, Problem, fastest, solve

PETA = 1e15
RATES = np.arange(10) / 10  # the rates of the paper's Table 8 are among them
PAPER_ROWS = ("paper-base", "paper-fast")
PROXY = "the proxy error is the sum over Q, V and sites of rate x (1 - similarity): no quality, and Q and V count alike"


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


_COLUMNS = ("fewer FLOPs", "PFLOP", "proxy error", "bound", "attention", "mean rate Q, V")


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


def solve_published(similarity: Path, model: str, targets: Sequence[float], output: Path | None = None) -> Published:
    """Solve every target by operations.

    Args:
        similarity: published similarity table of the model.
        model: one of the paper's five.
        targets: how many times fewer operations are wanted, matching included.
        output: folder for one uncertified artifact per target and `frontier.json`; nothing is written without it.

    Raises:
        UsageError: a target, the model, the table or the folder cannot be used.
        InfeasibleError: no target can be met.
    """
    check_targets(targets)
    architecture = find_architecture(model)
    solver = FlopsSolver(architecture, read_similarity(similarity, architecture))
    published = Published(model, solver, {target: solver.solve(target) for target in targets})
    if output is not None:
        _write(published, output)
    if not any(published.found.values()):
        raise InfeasibleError(
            f"{', '.join(f'{target:g}x' for target in targets)} fewer operations cannot be reached on {model}: the "
            f"highest rates at every site give {solver.best_attainable:.2f}x; ask for less."
        )
    return published


def targets_table(published: Published) -> Table:
    """One row a target, for the terminal."""
    table, solver = Table("target", *_COLUMNS, title=published.model), published.solver
    for target, found in published.found.items():
        if found is None:
            table.add_row(f"{target:g}x", f"at most {solver.best_attainable:.2f}x")
        else:
            table.add_row(f"{target:g}x", *_cells(solver, found.schedule, found.ratio, found.error, found.bound))
    return table


def comparison_table(published: Published) -> Table:
    """Table 8's schedules, each above the table found for exactly as many operations."""
    table, solver = (
        Table("schedule", *_COLUMNS, title="the paper's Table 8, and found at equal FLOPs"),
        published.solver,
    )
    for name in PAPER_ROWS:
        paper = load(published.model, name)
        ratio = solver.baseline / total_flops(solver.architecture, paper)
        table.add_row(name, *_cells(solver, paper, ratio, proxy_error(paper, solver.similarity)))
        found = solver.solve(ratio)
        if found is not None:
            table.add_row("  found", *_cells(solver, found.schedule, found.ratio, found.error, found.bound))
    return table


def _cells(
    solver: FlopsSolver, schedule: Schedule, ratio: float, error: float, bound: float | None = None
) -> tuple[str, ...]:
    return (
        f"{ratio:.4f}x",
        f"{solver.baseline / ratio / PETA:.3f}",
        f"{error:.2f}",
        "" if bound is None else f"{bound:.2f}",
        f"{schedule.attention_cost():.3f}",
        ", ".join(f"{schedule.rates[feature].mean():.2f}" for feature in ("Q", "V")),
    )


def _write(published: Published, folder: Path) -> None:
    make_folder(folder)
    rows = []
    for target, found in published.found.items():
        row: dict[str, object] = {"target_flops_ratio": target, "reached": found is not None}
        if found is not None:
            save_artifact(_artifact(published.model, found), folder / file_name(target))
            row |= {"file": file_name(target), "flops_ratio": found.ratio, "proxy_error": found.error}
            row |= {"bound": found.bound, "attention_cost": found.schedule.attention_cost()}
        rows.append(row)
    document = {
        "model": published.model,
        "best_attainable": published.solver.best_attainable,
        "note": PROXY,
        "targets": rows,
    }
    (folder / FRONTIER_FILE).write_text(json.dumps(document, indent=2) + "\n")


def _artifact(model: str, found: Found) -> Artifact:
    """An uncertified artifact for the workload of the paper's own schedules."""
    paper = load_shipped(model, PAPER_ROWS[0])
    source = (
        f"Solved from the similarity table published with the paper, for {found.ratio:.3f}x fewer operations; {PROXY}. "
        "Not measured or certified."
    )
    return paper.model_copy(
        update={
            "schedule": ScheduleSection.from_schedule(found.schedule),
            "prediction": PredictionSection(error=found.error, bound=found.bound),
            "provenance": ProvenanceSection(source=source),
        }
    )
