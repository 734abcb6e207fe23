"""Solves a published similarity table for several targets, prints the answer beside the paper and writes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from asymrnr.artifact import Artifact
from asymrnr.artifact_io import save_artifact
from asymrnr.schedule import Schedule
from asymrnr.sections import PredictionSection, ProvenanceSection, ScheduleSection
from asymrnr.shipped import load, load_shipped
from tuner.commands.validation import make_folder
from tuner.errors import InfeasibleError
from tuner.package import file_name
from tuner.paper.published import PETA, FlopsSolver, Found, Published, proxy_error, solve_table, total_flops
from tuner.stages.preflight import FRONTIER_FILE

PAPER_ROWS = ("paper-base", "paper-fast")
PROXY = "the proxy error is the sum over Q, V and sites of rate x (1 - similarity): no quality, and Q and V count alike"

_COLUMNS = ("fewer FLOPs", "PFLOP", "proxy error", "bound", "attention", "mean rate Q, V")


def solve_published(similarity: Path, model: str, targets: Sequence[float], output: Path | None = None) -> Published:
    """Solve every target by operations and write what was found.

    Args:
        similarity: published similarity table of the model.
        model: one of the paper's five.
        targets: how many times fewer operations are wanted, matching included; each above 1.
        output: folder for one uncertified artifact per target and `frontier.json`; nothing is written without it.

    Raises:
        UsageError: the model, the table or the folder cannot be used.
        InfeasibleError: no target can be met; the frontier is written all the same.
    """
    published = solve_table(similarity, model, targets)
    if output is not None:
        _write(published, output)
    if not any(published.found.values()):
        raise InfeasibleError(
            f"{', '.join(f'{target:g}x' for target in targets)} fewer operations cannot be reached on {model}: the "
            f"highest rates at every site give {published.solver.best_attainable:.2f}x; ask for less."
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
