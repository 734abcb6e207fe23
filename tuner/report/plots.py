"""Pictures of a run, as matplotlib figures; `save_figures` writes each as SVG and PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asymrnr.schedule import Schedule
from tuner.search.result import FrontierPoint, TrialRecord

BLOCK_GROUPS = 4
COLUMNS = 4


class ProfileTables(Protocol):
    """The tables of a profile that are drawn, each (blocks, steps) by name."""

    @property
    def similarity(self) -> Mapping[str, np.ndarray]: ...
    @property
    def raw_similarity(self) -> Mapping[str, np.ndarray]: ...
    @property
    def kl(self) -> Mapping[str, np.ndarray]: ...


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    """A figure of `count` small axes, at most four in a row."""
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(6.5, 2.9 * columns), 2.4 * rows), layout="constrained")
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(count)]


def _heat_maps(
    tables: Mapping[str, np.ndarray], label: str, low: float | None, high: float | None, x: str = "denoising step"
) -> Figure:
    figure, all_axes = _grid(len(tables))
    for axes, (name, table) in zip(all_axes, tables.items(), strict=True):
        image = axes.imshow(table, aspect="auto", origin="lower", cmap="viridis", vmin=low, vmax=high)
        axes.set_title(name, fontsize="medium")
        axes.set(xlabel=x, ylabel="block")
        figure.colorbar(image, ax=axes, label=label)
    return figure


def similarity_maps(profile: ProfileTables) -> Figure:
    """Standardised similarity S(A, t, b), a map a feature."""
    return _heat_maps(profile.similarity, "S", 0, 1)


def schedule_maps(schedule: Schedule) -> Figure:
    """Reduction rates, a map a feature."""
    return _heat_maps(dict(schedule.rates), "rate", 0, 1)


def divergence_maps(profile: ProfileTables) -> Figure:
    """kNN KL divergences of the kept tokens, a map an estimate; steps that were not sampled are left out."""
    sampled = {name: table[:, ~np.isnan(table).all(0)] for name, table in profile.kl.items()}
    return _heat_maps(sampled, "nats", None, None, x="sampled step")


def similarity_curves(profile: ProfileTables) -> Figure:
    """Raw similarity over denoising by group of blocks (paper figure 4); bands span the blocks of a group."""
    tables = profile.raw_similarity
    figure, all_axes = _grid(len(tables))
    for axes, (name, table) in zip(all_axes, tables.items(), strict=True):
        for group in np.array_split(np.arange(len(table)), min(BLOCK_GROUPS, len(table))):
            steps = np.arange(table.shape[1])
            label = f"blocks {group[0]}-{group[-1]}"
            (line,) = axes.plot(steps, table[group].mean(0), label=label)
            axes.fill_between(steps, table[group].min(0), table[group].max(0), alpha=0.15, color=line.get_color())
        axes.set_title(name, fontsize="medium")
        axes.set(xlabel="denoising step", ylabel="similarity")
        axes.legend(fontsize="xx-small")
    return figure


def search_history(history: Sequence[TrialRecord]) -> Figure:
    """Predicted error of every trial, and the best so far."""
    figure = Figure(figsize=(6.5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for form in sorted({record.form for record in history}):
        points = np.array([(r.trial, r.error) for r in history if r.form == form and np.isfinite(r.error)])
        if len(points):
            axes.scatter(points[:, 0], points[:, 1], s=9, label=form)
    best = [(r.trial, r.best) for r in history if np.isfinite(r.best)]
    if best:
        axes.step(*zip(*best, strict=True), where="post", color="black", label="best so far")
    axes.set(xlabel="trial", ylabel="predicted error", yscale="log")
    axes.legend(fontsize="small")
    return figure


def frontier(
    lines: Mapping[str, Sequence[FrontierPoint]], verified: Sequence[tuple[str, float, float]], target: float
) -> Figure:
    """Predicted error against predicted speed-up: a line a form, and every finalist as (label, speed-up, error)."""
    figure = Figure(figsize=(6.5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for form, points in lines.items():
        line = sorted((p.speedup, p.error) for p in points if 0 < p.error < np.inf)
        if line:
            axes.plot(*zip(*line, strict=True), marker=".", label=form)
    for label, speedup, error in verified:
        axes.scatter([speedup], [error], marker="*", s=120, zorder=3, label=label)
    axes.axvline(target, color="gray", linestyle=":", label="target")
    axes.set(xlabel="predicted speed-up", ylabel="predicted error", yscale="log")
    axes.legend(fontsize="small")
    return figure


def predicted_against_measured(points: Sequence[tuple[str, float, float]]) -> Figure:
    """Predicted and measured speed-up of every finalist, as (label, predicted, measured)."""
    figure = Figure(figsize=(4.2, 3.2), layout="constrained")
    axes = figure.add_subplot()
    values = [v for _, predicted, measured in points for v in (predicted, measured)]
    ends = (min(values) - 0.03, max(values) + 0.03)
    axes.plot(ends, ends, color="gray", linestyle=":")
    for label, predicted, measured in points:
        axes.scatter([predicted], [measured], label=label)
    axes.set(xlabel="predicted speed-up", ylabel="measured speed-up")
    axes.legend(fontsize="x-small")
    return figure


def profile_figures(profile: ProfileTables) -> dict[str, Figure]:
    """Every picture of a profile, by name."""
    return {
        "similarity": similarity_maps(profile),
        "similarity-curves": similarity_curves(profile),
        "divergence": divergence_maps(profile),
    }


def save_figures(figures: Mapping[str, Figure], folder: Path) -> None:
    """Write every figure as SVG and PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.svg")
        figure.savefig(folder / f"{name}.png", dpi=130)
