"""A synthetic profile and machine with the traits of real ones, small enough for exact checks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tuner.latency.model import LatencyModel
from tuner.latency.sites import SiteLatency
from tuner.latency.surface import LatencySurface
from tuner.profile.profile import Profile
from tuner.profile.similarity import standardise
from tuner.search.space import SearchSpace

BLOCKS, STEPS, GAPS = 3, 12, 6
GRID = (4, 8, 8)


@pytest.fixture
def space() -> SearchSpace:
    return SearchSpace.model_validate(
        {
            "strides": ["2x2x2", "1x2x2"],
            "cache_steps": [2, 5],
            "rates": [0.0, 0.2, 0.4, 0.6, 0.75, 0.875],
            "protected_steps": 2,
            "warm_starts": [{"name": "paper", "Q": {0.6: 0.4, 0.7: 0.8}, "V": {0.8: 0.3}}],
        }
    )


@pytest.fixture
def surface() -> LatencySurface:
    shares = (0.1, 0.4, 0.7, 1.0)
    return LatencySurface(
        grid=GRID,
        text_tokens=8,
        batch=1,
        heads=2,
        head_dim=16,
        shares=shares,
        attention=tuple(tuple(0.001 + 0.1 * q * v for v in shares) for q in shares),
        matching={"2x2x2": 0.008, "1x2x2": 0.014},
        gather_rates=(0.1, 0.9),
        gather_q=(0.002, 0.001),
        gather_v=(0.003, 0.001),
    )


@pytest.fixture
def model(surface: LatencySurface) -> LatencyModel:
    sites = SiteLatency((surface,), (0,) * BLOCKS)
    return LatencyModel(sites, STEPS, step_seconds=sites.full_seconds + 1.5 / STEPS)


@pytest.fixture
def profile(model: LatencyModel, space: SearchSpace) -> Profile:
    rng = np.random.default_rng(0)
    rates = np.array(space.rates)
    similarity = {f: standardise(rng.normal(size=(BLOCKS, STEPS))) for f in ("H", "Q", "K", "V")}
    q_error, v_error = {}, {}
    for stride, largest, quality in (("2x2x2", 0.875, 1.0), ("1x2x2", 0.75, 0.8)):
        for cache_step in space.cache_steps:
            for curves, feature in ((q_error, "Q"), (v_error, "V")):
                level = np.exp(rng.normal(size=(BLOCKS, STEPS)) - 2 * similarity[feature])[..., None]
                curve = 0.1 * quality * (1 + 0.05 * cache_step) * level * rates**2
                curves[stride, cache_step] = np.where(rates > largest, np.inf, curve)
    return Profile(
        model="synthetic",
        workload={"steps": STEPS, "frames": 13, "height": 64, "width": 64},
        prompt="",
        seed=0,
        schedule_seed=4,
        grid=GRID,
        heads=2,
        head_dim=16,
        text_tokens=8,
        timesteps=np.linspace(999, 1, STEPS),
        raw_similarity=similarity,
        similarity=similarity,
        kl={},
        norm_tail={},
        persistence={},
        rates=rates,
        q_error=q_error,
        v_error=v_error,
        latency=model,
    )


@pytest.fixture
def whole(model: LatencyModel) -> LatencyModel:
    """The same machine with projections, which broadcasting spares."""
    return replace(model, sites=replace(model.sites, projections=(0.02, 0.03, 0.04)))


@pytest.fixture
def remembering(profile: Profile, whole: LatencyModel) -> Profile:
    """The profile with errors with memory, which grow with the gap; outputs change most at first and at last."""
    rng = np.random.default_rng(1)
    level = np.exp(0.7 * rng.normal(size=(BLOCKS, STEPS))) * (1 + np.linspace(-1, 1, STEPS) ** 4)
    gaps = np.arange(1, GAPS + 1)
    broadcast = 0.02 * level[..., None] * gaps**1.5
    broadcast[:, np.arange(STEPS)[:, None] < gaps] = np.nan  # there is no such step
    memory = 0.3 * broadcast[..., None] * profile.rates**2
    return replace(profile, latency=whole, memory_error={"2x2x2": memory}, broadcast_error={"2x2x2": broadcast})
