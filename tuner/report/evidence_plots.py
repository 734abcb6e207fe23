"""Pictures of what a certificate rests on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from tuner.certify.statistics import SpeedupEstimate
from tuner.report.plots import SIZE
from tuner.run.pair import Pair
from tuner.stages.certify import SLACK
from tuner.stages.compare import TUNED, Compared


def evidence(pairs: Sequence[Pair], estimate: SpeedupEstimate, target: float) -> Figure:
    """Every step of every pair, and the speed-ups of the pairs with their mean and its bounds.

    Args:
        pairs: what was judged.
        estimate: what they give together.
        target: denoising speed-up asked for; the band from it to 5 % above is where a certificate should lie.
    """
    figure = Figure(figsize=(SIZE[0], 2 * SIZE[1]), layout="constrained")
    steps, forest = figure.subplots(2, 1)
    for pair in pairs:
        ratio = pair.plain.step_seconds / pair.tuned.step_seconds
        steps.plot(np.arange(len(ratio)), ratio, marker=".", markersize=4, linewidth=0.6)  # coloured as below
    steps.axhline(target, color="gray", linestyle=":")
    steps.set(xlabel="denoising step", ylabel="plain / tuned seconds", title="Steps side by side")
    steps.locator_params(axis="x", integer=True)
    forest.axvspan(target, target * (1 + SLACK), color="tab:green", alpha=0.12)
    forest.axvline(target, color="gray", linestyle=":")
    for number, pair in enumerate(pairs, start=1):
        found = pair.denoise
        error = found.speedup * found.standard_error if np.isfinite(found.standard_error) else None
        forest.errorbar(found.speedup, number, xerr=error, fmt="o", color=f"C{(number - 1) % 10}", capsize=2)
    row = len(pairs) + 1
    if estimate.lower_bound_95 is not None and estimate.upper_bound_95 is not None:
        forest.hlines(row, estimate.lower_bound_95, estimate.upper_bound_95, color="black", linewidth=2)
    forest.plot(estimate.point, row, marker="D", color="black")
    forest.set_yticks(range(1, row + 1), [*(f"pair {n}" for n in range(1, row)), "together"])
    forest.invert_yaxis()
    forest.set(xlabel="denoising speed-up", title="Pairs, and their 95 % bounds together")
    return figure


def beside_caches(compared: Sequence[Compared], target: float) -> Figure:
    """PSNR against speed-up of the tuned schedule and of every alternative that does something."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    for row in compared:
        if row.psnr is None or row.speedup is None:
            continue
        own = row.name == TUNED
        axes.scatter([row.speedup], [row.psnr], marker="*" if own else "o", s=140 if own else 25, zorder=3)
        axes.annotate(row.name, (row.speedup, row.psnr), xytext=(5, 3), textcoords="offset points", fontsize="x-small")
    axes.axvline(target, color="gray", linestyle=":")
    axes.set(xlabel="denoising speed-up", ylabel="PSNR to the unaccelerated video, dB")
    return figure
