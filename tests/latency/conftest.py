"""A machine whose times are made up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from asymrnr.schedule import Schedule
from tuner.latency.model import LatencyModel
from tuner.latency.sites import SiteLatency
from tuner.latency.surface import LatencySurface
from tuner.strides import parse_stride

BLOCKS, STEPS = 3, 12


@pytest.fixture
def model() -> LatencyModel:
    """Attention is 60 % of a step; matching both features at every step costs a sixth of that."""
    shares = (0.1, 0.4, 0.7, 1.0)
    surface = LatencySurface(
        grid=(4, 8, 8),
        text_tokens=8,
        batch=1,
        heads=2,
        head_dim=16,
        shares=shares,
        attention=tuple(tuple(0.001 + 0.1 * q * v for v in shares) for q in shares),
        matching={"2x2x2": 0.008, "1x2x2": 0.014},
        gather_rates=(0.1, 0.9),
        gather_q=(0.004, 0.002),
        gather_v=(0.006, 0.002),
    )
    sites = SiteLatency((surface,), (0,) * BLOCKS)
    return LatencyModel(sites, STEPS, step_seconds=sites.full_seconds / 0.6)


@pytest.fixture
def draw() -> Callable[[np.random.Generator], Schedule]:
    """Random schedules: rates that vary over sites, one stride and cache step."""

    def draw(rng: np.random.Generator) -> Schedule:
        rates = {f: rng.uniform(0, rng.uniform(0.2, 0.85), size=(BLOCKS, STEPS)) for f in ("Q", "V")}
        rates = {
            f: np.where(rng.random((BLOCKS, STEPS)) < rng.uniform(0.3, 1), table, 0.0) for f, table in rates.items()
        }
        stride, cache_step = ("2x2x2", "1x2x2")[rng.integers(2)], int(rng.integers(1, 7))
        return Schedule(rates, stride=parse_stride(stride), cache_step=cache_step)

    return draw
