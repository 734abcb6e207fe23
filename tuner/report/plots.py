"""Pictures of a run, as matplotlib figures; `save_figures` writes each as SVG and PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from asymrnr.schedule import Schedule
from tuner.search.result import FrontierPoint, TrialRecord

COLUMNS = 2
SIZE = (5.2, 3.0)  # inches; wider figures cannot be read on a phone
DOING = {  # by action; the last one is no action of sites
    **{"full or copied": "#f2f2f2", "refresh": "#444444", "memory": "#2a9d8f", "broadcast": "#e9c46a"},
    "left out": "#7b2d8b",
}


def axes_grid(count: int, columns: int = COLUMNS) -> tuple[Figure, list[Axes]]:
    """A figure of `count` small axes, at most so many in a row."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(SIZE[0], 2.4 * rows), layout="constrained")
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(count)]


def legend_above(figure: Figure, axes: Axes) -> None:
    """The legend of some axes, or of what they have in common with the others, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    columns = max(1, min(len(labels), 4 if max(map(len, labels), default=0) < 14 else 2))
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, fontsize="small", frameon=False)


def heat_maps(
    tables: Mapping[str, np.ndarray], label: str, low: float | None, high: float | None, columns: int = COLUMNS
) -> Figure:
    """A map (blocks, steps) each."""
    figure, all_axes = axes_grid(len(tables), columns)
    for axes, (name, table) in zip(all_axes, tables.items(), strict=True):
        _heat_map(figure, axes, name, table, label, low, high)
    return figure


def _heat_map(
    figure: Figure, axes: Axes, name: str, table: np.ndarray, label: str, low: float | None, high: float | None
) -> None:
    image = axes.imshow(table, aspect="auto", origin="lower", cmap="viridis", vmin=low, vmax=high)
    axes.set_title(name, fontsize="medium")
    axes.set(xlabel="denoising step", ylabel="block")
    axes.locator_params(integer=True)
    figure.colorbar(image, ax=axes, label=label)


def schedule_maps(schedule: Schedule) -> Figure:
    """Reduction rates, a map a feature; and what the sites do, where they do more than copy."""
    left_out = schedule.reused_steps()
    if schedule.actions is None and not left_out.any():
        return heat_maps(dict(schedule.rates), "rate", 0, 1, columns=1)
    doing = np.zeros((schedule.blocks, schedule.steps)) if schedule.actions is None else schedule.actions.astype(float)
    doing[:, left_out] = len(DOING) - 1
    tables = {feature: table for feature, table in schedule.rates.items() if table.any()}
    figure, (first, *others) = axes_grid(1 + len(tables), columns=1)
    colours, last = ListedColormap(list(DOING.values())), len(DOING) - 0.5
    image = first.imshow(doing, aspect="auto", origin="lower", cmap=colours, vmin=-0.5, vmax=last)
    first.set_title("what blocks do", fontsize="medium")
    first.set(xlabel="denoising step", ylabel="block")
    first.locator_params(integer=True)
    figure.colorbar(image, ax=first, ticks=range(len(DOING))).set_ticklabels(list(DOING))
    for axes, (feature, table) in zip(others, tables.items(), strict=True):
        _heat_map(figure, axes, feature, table, "rate", 0, 1)
    return figure


def search_history(history: Sequence[TrialRecord]) -> Figure:
    """Predicted error of every trial, and the best so far."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    for form in sorted({record.form for record in history}):
        points = np.array([(r.trial, r.error) for r in history if r.form == form and np.isfinite(r.error)])
        if len(points):
            axes.scatter(points[:, 0], points[:, 1], s=9, label=form)
    best = [(r.trial, r.best) for r in history if np.isfinite(r.best)]
    if best:
        axes.step(*zip(*best, strict=True), where="post", color="black", label="best so far")
    axes.set(xlabel="trial", ylabel="predicted error", yscale="log")
    legend_above(figure, axes)
    return figure


def frontier(
    lines: Mapping[str, Sequence[FrontierPoint]], verified: Sequence[tuple[str, float, float]], target: float
) -> Figure:
    """Predicted error against predicted speed-up: a line a form, and every finalist as (label, speed-up, error)."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    for form, points in lines.items():
        line = sorted((p.speedup, p.error) for p in points if 0 < p.error < np.inf)
        if line:
            axes.plot(*zip(*line, strict=True), marker=".", label=form)
    for label, speedup, error in verified:
        axes.scatter([speedup], [error], marker="*", s=120, zorder=3, label=label)
    axes.axvline(target, color="gray", linestyle=":", label="target")
    axes.set(xlabel="predicted speed-up", ylabel="predicted error", yscale="log")
    legend_above(figure, axes)
    return figure


def predicted_against_measured(points: Sequence[tuple[str, float, float, float]]) -> Figure:
    """Speed-ups of every finalist: (label, predicted before it was measured, predicted with all pooled, measured)."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    values = [v for _, *speedups in points for v in speedups]
    ends = (min(values) - 0.03, max(values) + 0.03)
    axes.plot(ends, ends, color="gray", linestyle=":")
    for number, (label, before, pooled, measured) in enumerate(points):
        colour = f"C{number % 10}"
        axes.plot([before, pooled], [measured, measured], color=colour, linewidth=0.8)
        axes.scatter([before], [measured], facecolors="none", edgecolors=colour)
        axes.scatter([pooled], [measured], color=colour, label=label)
    axes.set(xlabel="predicted speed-up", ylabel="measured speed-up")
    legend_above(figure, axes)
    return figure


def save_figures(figures: Mapping[str, Figure], folder: Path) -> None:
    """Write every figure as SVG and PNG, named by its heading in small letters with dashes."""
    folder.mkdir(parents=True, exist_ok=True)
    for heading, figure in figures.items():
        name = heading.lower().replace(",", "").replace(" ", "-")
        figure.savefig(folder / f"{name}.svg")
        figure.savefig(folder / f"{name}.png", dpi=130)
