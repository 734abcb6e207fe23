"""Does another prompt show the same similarities? The paper calls the pattern content-agnostic (section 3.4)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

RESAMPLES = 400


class Agreement(NamedTuple):
    """Spearman's rank correlation of two prompts over all sites, with its 95 % interval."""

    spearman: float
    low: float
    high: float


def at_timesteps(table: np.ndarray, timesteps: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """A table interpolated linearly over the sampler's timesteps.

    Args:
        table: (blocks, steps).
        timesteps: (steps,) descending.
        wanted: (other steps,).

    Returns:
        (blocks, other steps)
    """
    return np.stack([np.interp(wanted, timesteps[::-1], row[::-1]) for row in table])


def agreement(one: np.ndarray, other: np.ndarray) -> Agreement:
    """How far two prompts rank the sites alike; the interval resamples blocks, whose steps are not independent.

    Args:
        one, other: raw similarities, (blocks, steps) each.

    Returns:
        The correlation; 0 where a table does not vary.
    """
    picks = np.random.default_rng(0).integers(len(one), size=(RESAMPLES, len(one)))
    samples = [_spearman(one[rows], other[rows]) for rows in picks]
    low, high = np.quantile(samples, [0.025, 0.975]).tolist()
    return Agreement(_spearman(one, other), low, high)


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    a, b = rankdata(one), rankdata(other)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 0.0
