"""The same rate at every site: what a schedule has to beat."""

from __future__ import annotations

import numpy as np

from asymrnr.schedule import Schedule
from tuner.latency.model import LatencyModel
from tuner.search.scale import smallest_scale


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
