"""How far measured error curves are believed, because a search exploits whatever they get wrong.

A curve says how far one attention output moves, for one prompt; what that does to the video also depends on how much
the rest of the model cares, which it does not say. Schedules of least predicted error therefore put their highest rates
where the curve flatters a site most. Pulling curves toward the common one (shrinkage, partial pooling) leaves less to
exploit: see docs/baselines.md for what that changed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Trust:
    """How much of what sets blocks, and steps, apart from the common error curve is believed.

    Attributes:
        blocks, steps: from 0, all the same, to 1, as measured.
    """

    blocks: float = 1.0
    steps: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.blocks <= 1 and 0 <= self.steps <= 1):
            raise ValueError("trust in blocks and in steps must lie between 0 and 1")

    def __str__(self) -> str:
        if self == Trust():
            return "errors as measured"
        return f"errors pooled (blocks {self.blocks:g}, steps {self.steps:g})"


def shrink(curves: np.ndarray, trust: Trust) -> np.ndarray:
    """Error curves pulled toward their geometric mean over all sites.

    The logarithms are split into common + block + step + interaction for every rate; the parts are weighted with 1,
    `trust.blocks`, `trust.steps` and the product of both.

    Args:
        curves: (blocks, steps, R), squared relative errors, none negative; the first rate is 0, inf is out of reach.
        trust: how much of the differences is kept.

    Returns:
        The same shape; zeros of the first rate and infinities stay.
    """
    if trust == Trust():
        return curves
    finite = np.isfinite(curves)
    positive = finite & (curves > 0)
    smallest = curves[positive].min() if positive.any() else 1.0
    logs = np.ma.masked_array(np.log(np.where(finite, np.maximum(curves, smallest), 1.0)), ~finite)
    common = logs.mean((0, 1), keepdims=True)
    block = (logs.mean(1, keepdims=True) - common).filled(0.0)
    step = (logs.mean(0, keepdims=True) - common).filled(0.0)
    common = common.filled(0.0)
    interaction = logs.filled(0.0) - common - block - step
    shrunk = np.exp(common + trust.blocks * block + trust.steps * step + trust.blocks * trust.steps * interaction)
    shrunk[..., 0] = curves[..., 0]
    result: np.ndarray = np.where(finite, shrunk, curves)
    return result
