"""What windows get wrong, from profiled errors of single sites."""

from __future__ import annotations

import numpy as np


def between(error: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Errors between some of the steps, as if there were no others.

    Args:
        error: (blocks, steps, gaps, ...) at a step since one so many steps earlier.
        steps: (n,) ascending.

    Returns:
        (blocks, n, gaps, ...) since one so many of these steps earlier; inf where that is too long ago, NaN where there
        is none.
    """
    gaps = error.shape[2]
    found = np.full((len(error), len(steps), *error.shape[2:]), np.nan)
    for index, step in enumerate(steps):
        for back in range(1, min(gaps, index) + 1):
            gap = step - steps[index - back]
            found[:, index, back - 1] = error[:, step, gap - 1] if gap <= gaps else np.inf
    return found


def pooled(error: np.ndarray, trust: float) -> np.ndarray:
    """Squared errors pulled toward their geometric mean over blocks.

    Args:
        error: (blocks, steps, gaps), from 0; inf is out of reach, and for all blocks or for none.
        trust: how much of what sets blocks apart is believed, from 0 to 1.
    """
    finite = np.isfinite(error)
    smallest = error[finite & (error > 0)].min(initial=1.0)
    logs = np.log(np.where(finite, np.maximum(error, smallest), 1.0))
    return np.where(finite, np.exp(trust * logs + (1 - trust) * logs.mean(axis=0, keepdims=True)), np.inf)


def window_losses(error: np.ndarray) -> np.ndarray:
    """What windows get wrong in all: their steps' amplitudes added up, and squared.

    Args:
        error: (blocks, steps, gaps) weighted squared errors at the step that uses a refresh so many steps earlier.

    Returns:
        (blocks, steps, gaps) by the step of the refresh and by how many steps go on from there; inf where the
        generation ends before.
    """
    blocks, steps, gaps = error.shape
    amplitude = np.full((blocks, steps, gaps), np.inf)
    for gap in range(1, min(gaps, steps - 1) + 1):
        amplitude[:, : steps - gap, gap - 1] = np.sqrt(error[:, gap:, gap - 1])
    return amplitude.cumsum(axis=2) ** 2
