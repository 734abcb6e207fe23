"""A machine whose times are made up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from asymrnr.actions import Action
from asymrnr.schedule import Schedule
from tuner.latency.model import LatencyModel
from tuner.latency.residual import ResidualLatency
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
def whole(model: LatencyModel) -> LatencyModel:
    """The same with what restoring with memory takes, and what is around attention, by block: a fifth of a step."""
    (surface,) = model.sites.surfaces
    residual = ResidualLatency(surface.gather_rates, learn_q=(0.004, 0.006), add_q=(0.001, 0.003), everywhere=0.005)
    projections = tuple((np.array([2, 3, 4]) / 9 * 0.2 * model.step_seconds).tolist())
    sites = replace(model.sites, surfaces=(replace(surface, residual=residual),), projections=projections)
    return replace(model, sites=sites)


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


@pytest.fixture
def draw_actions() -> Callable[[np.random.Generator], Schedule]:
    """Random schedules with all actions: every block begins as it likes, and refreshes before what needs it."""

    def draw(rng: np.random.Generator) -> Schedule:
        actions = rng.choice(len(Action), size=(BLOCKS, STEPS), p=rng.dirichlet(np.ones(len(Action))))
        for row in actions:
            row[np.flatnonzero(row)[:1]] = Action.REFRESH
        refreshes = np.where(actions == Action.REFRESH, np.arange(STEPS), 0)
        last = np.maximum.accumulate(refreshes, axis=1)
        drawn = {feature: rng.uniform(0.1, 0.85, size=(BLOCKS, STEPS)) for feature in ("Q", "V")}
        neither, alone = rng.random((BLOCKS, STEPS)) < 0.3, rng.integers(3, size=(BLOCKS, STEPS))
        rates = {}
        for number, (feature, table) in enumerate(drawn.items()):
            table[alone == number] = 0
            memory, copied = np.take_along_axis(table, last, axis=1), np.where(neither, 0.0, table)
            rates[feature] = np.where(actions == Action.MEMORY, memory, np.where(actions == Action.REDUCE, copied, 0.0))
        stride, cache_step = ("2x2x2", "1x2x2")[rng.integers(2)], int(rng.integers(1, 7))
        return Schedule(rates, stride=parse_stride(stride), cache_step=cache_step, actions=actions)

    return draw
