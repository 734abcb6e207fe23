"""Times a model without a schedule: its steps, its attention calls, and the latency model made of both."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import asymrnr
from asymrnr.partition import Grid
from tuner.latency.model import LatencyModel
from tuner.latency.sites import SiteLatency
from tuner.latency.surface import LatencySurface
from tuner.run.runner import Runner

WARM_UP, TIMED, BURSTS = 2, 3, 3
SURFACE_SECONDS = 2.0  # over all shapes


@dataclass(frozen=True)
class Shape:
    """One attention call as the model really makes it; dtype is torch's name for it."""

    batch: int
    heads: int
    head_dim: int
    grid: Grid
    text_tokens: int
    dtype: str

    @classmethod
    def of(cls, call: asymrnr.AttentionCall) -> Shape:
        """The shape of an observed call."""
        batch, heads, tokens, head_dim = call.query.shape
        dtype = str(call.query.dtype).removeprefix("torch.")
        return cls(batch, heads, head_dim, call.grid, tokens - math.prod(call.grid), dtype)


@dataclass(frozen=True)
class Sites:
    """The attention sites of a model.

    Attributes:
        shapes: of their attention calls, each once.
        shape_of: (blocks,) which of them each block has.
        calls: attention calls of a block in one step.
    """

    shapes: tuple[Shape, ...]
    shape_of: tuple[int, ...]
    calls: int

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Sites:
        """Read back what `dataclasses.asdict` gave, also after JSON turned tuples into lists."""
        shapes = tuple(Shape(**{**shape, "grid": tuple(shape["grid"])}) for shape in values["shapes"])
        return cls(shapes, tuple(values["shape_of"]), values["calls"])


def look_at_sites(runner: Runner, prompt: str) -> Sites:
    """Warm up, and see the attention calls of the first step."""
    shapes: dict[int, Shape] = {}  # by block
    calls: Counter[int] = Counter()

    def look(call: asymrnr.AttentionCall) -> None:
        if call.step == 0:
            shapes.setdefault(call.block, Shape.of(call))
            calls[call.block] += 1

    with asymrnr.observe(runner.pipe, look):
        runner.time_steps(WARM_UP, prompt)
    distinct = list(dict.fromkeys(shapes.values()))
    shape_of = tuple(distinct.index(shapes[block]) for block in sorted(shapes))
    return Sites(tuple(distinct), shape_of, calls=max(calls.values()))


def measure_sites(sites: Sites, strides: Sequence[str], device: torch.device) -> SiteLatency:
    """What the sites take, in a few seconds."""
    surfaces = tuple(
        LatencySurface.measure(
            heads=shape.heads,
            head_dim=shape.head_dim,
            grid=shape.grid,
            text_tokens=shape.text_tokens,
            batch=shape.batch,
            strides=strides,
            dtype=getattr(torch, shape.dtype),
            device=device,
            budget_seconds=SURFACE_SECONDS / len(sites.shapes),
        )
        for shape in sites.shapes
    )
    return SiteLatency(surfaces, sites.shape_of, sites.calls)


def latency_model(sites: SiteLatency, step_seconds: float, steps: int) -> LatencyModel:
    """What a step takes beyond its attention calls is the rest, which no schedule changes.

    Args:
        sites: what the attention calls take.
        step_seconds: wall time of one unaccelerated denoising step.
        steps: denoising steps of one generation.
    """
    return LatencyModel(sites, steps, rest_seconds=max(0.0, step_seconds - sites.full_seconds) * steps)


def undisturbed(bursts: Sequence[np.ndarray]) -> float:
    """Seconds of one step: the least median of several bursts of steps.

    What disturbs a machine makes steps slower, and makes attention seem a smaller part of them than it is.
    """
    return float(min(np.median(burst) for burst in bursts))


def time_model(runner: Runner, prompt: str, strides: Sequence[str]) -> LatencyModel:
    """Look, time and model in one go, for commands that keep no log of measurements.

    Args:
        runner: the model.
        prompt: what the timed steps begin to show.
        strides: strides whose matching is timed.
    """
    sites = look_at_sites(runner, prompt)
    step_seconds = undisturbed([runner.time_steps(TIMED + 1, prompt)[1:] for _ in range(BURSTS)])
    latency = measure_sites(sites, strides, runner.device)
    return latency_model(latency, step_seconds, runner.entry.workload.steps)
