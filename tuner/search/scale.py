"""The gentlest schedule of a family that is fast enough."""

from __future__ import annotations

from collections.abc import Callable

from asymrnr.schedule import Schedule
from tuner.latency.model import LatencyModel

BISECTIONS = 30


def smallest_scale(
    build: Callable[[float], Schedule], model: LatencyModel, target_speedup: float, highest: float = 1.0
) -> Schedule | None:
    """The gentlest schedule of a one-parameter family that reaches a predicted speed-up, by bisection.

    Args:
        build: maps a scale in [0, highest] to a schedule; more scale means less work.
        model: predicts the speed-up.
        target_speedup: denoising speed-up to reach.
        highest: largest scale.

    Returns:
        The schedule, or None when even the largest scale falls short.
    """
    if model.speedup(build(highest)) < target_speedup:
        return None
    low, high = 0.0, highest
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        if model.speedup(build(middle)) < target_speedup:
            low = middle
        else:
            high = middle
    return build(high)
