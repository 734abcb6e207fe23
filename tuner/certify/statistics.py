"""The speed-up of a schedule with a lower bound that holds for new runs, not only for the ones measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 4000
BLOCK = 5  # consecutive steps that are resampled together
CONFIDENCE = 0.95


@dataclass(frozen=True)
class PairedRun:
    """One prompt and seed, unaccelerated and tuned: seconds of every part (step), in order, of equal number."""

    baseline: np.ndarray
    tuned: np.ndarray


@dataclass(frozen=True)
class SpeedupEstimate:
    """Baseline time over tuned time.

    Attributes:
        point: ratio of the summed times.
        lower_bound_95: one-sided 95 % lower bound.
        relative_mad: median absolute deviation of the runs' total times around their median, relative to it; the worse
            of baseline and tuned. For a single pair that of the steps of its baseline run, which all do the same work.
        runs: number of paired runs.
    """

    point: float
    lower_bound_95: float
    relative_mad: float
    runs: int


def relative_mad(values: np.ndarray) -> float:
    """Median absolute deviation over the median."""
    median = float(np.median(values))
    return float(np.median(np.abs(values - median)) / median)


def estimate_speedup(runs: Sequence[PairedRun], seed: int = 0) -> SpeedupEstimate:
    """Estimate the speed-up of whole runs with a hierarchical block bootstrap.

    The quantity is total baseline time over total tuned time, because that is what a user pays for: steps differ in how
    much they are reduced, so a mean of per-step ratios would estimate something else. Runs are resampled first, which
    carries drift between runs, then blocks of consecutive steps within each run, which carry short disturbances; a
    block keeps baseline and tuned steps of the same positions together, so that every resample compares like with like.

    Args:
        runs: paired runs.
        seed: of the resampling.

    Raises:
        ValueError: there is no run, or a pair differs in length.
    """
    if not runs or any(len(r.baseline) != len(r.tuned) or len(r.baseline) == 0 for r in runs):
        raise ValueError("estimate_speedup needs at least one pair of runs with equally many steps.")
    rng = np.random.default_rng(seed)
    point = sum(r.baseline.sum() for r in runs) / sum(r.tuned.sum() for r in runs)
    ratios = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        baseline = tuned = 0.0
        for r in rng.integers(len(runs), size=len(runs)):
            steps = _blocks(len(runs[r].baseline), rng)
            # Steps differ systematically, so a resample is scaled by what its positions cost on average.
            expected = np.sum([run.tuned[steps].sum() / run.tuned.sum() for run in runs]) / len(runs)
            baseline += runs[r].baseline[steps].sum() * len(runs[r].baseline) / len(steps)
            tuned += runs[r].tuned[steps].sum() / expected
        ratios[i] = baseline / tuned
    return SpeedupEstimate(
        point=float(point),
        lower_bound_95=float(min(point, np.quantile(ratios, 1 - CONFIDENCE))),
        relative_mad=_scatter(runs),
        runs=len(runs),
    )


def _scatter(runs: Sequence[PairedRun]) -> float:
    """See `SpeedupEstimate.relative_mad`."""
    if len(runs) == 1:
        return relative_mad(runs[0].baseline)
    totals = ([r.baseline.sum() for r in runs], [r.tuned.sum() for r in runs])
    return max(relative_mad(np.array(seconds)) for seconds in totals)


def _blocks(length: int, rng: np.random.Generator) -> np.ndarray:
    """Positions of enough random blocks of consecutive steps, wrapping at the end, to fill one run."""
    block = min(BLOCK, length)
    starts = rng.integers(length, size=-(-length // block))
    return ((starts[:, None] + np.arange(block)) % length).ravel()[:length]
