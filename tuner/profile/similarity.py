"""The matched similarity S(A, t, b) and its standardised form (paper section 3.4 and appendix C)."""

from __future__ import annotations

import numpy as np

from asymrnr.reduction import Match

PERCENTILES = (5.0, 95.0)


def matched_similarity(match: Match) -> float:
    """Mean over batch, heads and sources of the negative distance to the matched destination."""
    return -float(match.mean_distance)


def standardise(raw: np.ndarray) -> np.ndarray:
    """Clip to the 5th to 95th percentile over all sites of the feature, then scale to [0, 1] (appendix C).

    Args:
        raw: matched similarity, (blocks, steps).

    Returns:
        (blocks, steps) in [0, 1]; all zero where the feature does not vary at all, so that no threshold above zero
        is reached.
    """
    low, high = np.percentile(raw, PERCENTILES)
    if high <= low:
        return np.zeros_like(raw, dtype=np.float64)
    return (np.clip(raw, low, high) - low) / (high - low)


def fill_steps(sampled: np.ndarray) -> np.ndarray:
    """Interpolate linearly over the steps that were not sampled; constant before the first and after the last.

    Args:
        sampled: (blocks, steps) with NaN where nothing was sampled; every block needs one value.
    """
    steps = np.arange(sampled.shape[1])
    rows = [np.interp(steps, steps[~np.isnan(row)], row[~np.isnan(row)]) for row in sampled]
    return np.stack(rows)
