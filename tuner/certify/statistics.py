"""How much faster a schedule is, from several pairs of runs, with bounds that hold for new pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95
BOTH_SIDES = (1 - CONFIDENCE) / 2  # of an interval that is no bound


@dataclass(frozen=True)
class Look:
    """A look at the evidence, after so many pairs, with the error that it may make."""

    pairs: int
    alpha: float


# A bound misses at one look or another in 1 - CONFIDENCE of all cases, so that stopping at any of them keeps it: looks
# share their pairs, so these errors make 4.95 % together, less than their sum (simulated in tests/certify).
LOOKS = (Look(4, 0.025), Look(6, 0.0125), Look(8, 0.0125), Look(12, 0.02))


def alpha_at(pairs: int) -> float:
    """The error that the look after so many pairs may make.

    Raises:
        ValueError: there is no look after so many pairs.
    """
    for look in LOOKS:
        if look.pairs == pairs:
            return look.alpha
    raise ValueError(f"There is no look after {pairs} pairs, only after {', '.join(str(k.pairs) for k in LOOKS)}.")


@dataclass(frozen=True)
class Bounds:
    """A mean with its lower and its upper bound, each one-sided; None with a single value."""

    mean: float
    low: float | None
    high: float | None
    count: int


def mean_bounds(values: Sequence[float], alpha: float, spread: float | None = None) -> Bounds:
    """One-sided bounds of the mean of a normal distribution, by Student's t.

    Args:
        values: independent values, one a pair.
        alpha: how often each bound may miss the mean.
        spread: standard deviation to use instead of the values' own.

    Raises:
        ValueError: there is no value.
    """
    count = len(values)
    if count == 0:
        raise ValueError("mean_bounds needs at least one value.")
    mean = float(np.mean(values))
    if count == 1:
        return Bounds(mean, None, None, 1)
    deviation = float(np.std(values, ddof=1)) if spread is None else spread
    margin = float(stdtrit(count - 1, 1 - alpha)) * deviation / math.sqrt(count)
    return Bounds(mean, mean - margin, mean + margin, count)


@dataclass(frozen=True)
class SpeedupEstimate:
    """Plain time over tuned time.

    Attributes:
        point: geometric mean over pairs.
        lower_bound_95, upper_bound_95: one-sided bounds that hold with 95 % confidence over all looks together; None
            with a single pair.
        spread: standard deviation over pairs of the log speed-up; None with a single pair.
        pairs: number of pairs.
    """

    point: float
    lower_bound_95: float | None
    upper_bound_95: float | None
    spread: float | None
    pairs: int


def estimate_speedup(log_speedups: Sequence[float], alpha: float = 1 - CONFIDENCE) -> SpeedupEstimate:
    """The speed-up of new pairs, from the log speed-ups of those measured.

    Args:
        log_speedups: one a pair; see `PairEstimate`.
        alpha: how often each bound may miss; that of the look, where there are several (see `alpha_at`).

    Raises:
        ValueError: there is no pair.
    """
    bounds = mean_bounds(log_speedups, alpha)
    return SpeedupEstimate(
        point=math.exp(bounds.mean),
        lower_bound_95=None if bounds.low is None else math.exp(bounds.low),
        upper_bound_95=None if bounds.high is None else math.exp(bounds.high),
        spread=float(np.std(log_speedups, ddof=1)) if bounds.count > 1 else None,
        pairs=bounds.count,
    )
