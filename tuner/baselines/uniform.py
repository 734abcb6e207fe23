"""The same rate at every site: what a schedule has to beat."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from asymrnr.schedule import Schedule
from tuner.surrogate.latency import LatencyModel

BISECTIONS = 40


def smallest_scale(build: Callable[[float], Schedule], model: LatencyModel, target_speedup: float) -> Schedule | None:
    """The gentlest schedule of a one-parameter family that reaches a predicted speed-up.

    Args:
        build: maps a scale in [0, 1] to a schedule; more scale means less work.
        model: predicts the speed-up.
        target_speedup: denoising speed-up to reach.

    Returns:
        The schedule, or None when even scale 1 falls short.
    """
    if model.speedup(build(1.0)) < target_speedup:
        return None
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if model.speedup(build(middle)) < target_speedup:
            low = middle
        else:
            high = middle
    return build(high)


def uniform_schedule(
    model: LatencyModel,
    target_speedup: float,
    shape: tuple[int, int],
    features: tuple[str, ...],
    max_rate: float,
    **settings: object,
) -> Schedule | None:
    """One rate for `features` at every (block, step), as low as the target allows.

    Args:
        model: predicts the speed-up.
        target_speedup: denoising speed-up to reach.
        shape: (blocks, steps).
        features: which of "Q" and "V" to reduce.
        max_rate: highest rate the stride allows.
        settings: the schedule's other attributes (stride, cache_step, ...).
    """

    def build(scale: float) -> Schedule:
        rates = {feature: np.full(shape, scale * max_rate) for feature in features}
        return Schedule(rates=rates, form="table", **settings)  # type: ignore[arg-type]

    return smallest_scale(build, model, target_speedup)
