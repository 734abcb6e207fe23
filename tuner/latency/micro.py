"""Times a model's attention calls and modules, and makes a latency model of them and of the time of a step."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

import asymrnr
from asymrnr.adapters import find_adapter
from asymrnr.install import base_model, self_attentions
from asymrnr.partition import Grid
from tuner.latency.masking import Masking
from tuner.latency.model import PRIOR_COVARIANCE, Coefficients, LatencyModel
from tuner.latency.modules import ModuleClock
from tuner.latency.sites import SiteLatency
from tuner.latency.surface import LatencySurface
from tuner.run.runner import Runner

WARM_UP = 6  # steps; the first one, which is seen, is slow, and attention is timed in the others
SURFACE_SECONDS = 2.0  # over all shapes


@dataclass(frozen=True)
class Shape:
    """One attention call as the model really makes it.

    Attributes:
        batch, heads, head_dim, text_tokens: numbers of each.
        grid: (frames, height, width) in tokens.
        dtype: torch's name for it.
        mask: None where there is none.
        backend: diffusers' attention backend, "" the active one; None where torch's attention is called directly.
    """

    batch: int
    heads: int
    head_dim: int
    grid: Grid
    text_tokens: int
    dtype: str
    mask: Masking | None = None
    backend: str | None = None

    @classmethod
    def of(cls, call: asymrnr.AttentionCall) -> Shape:
        """The shape of an observed call."""
        batch, heads, tokens, head_dim = call.query.shape
        mask = None if call.mask is None else _masking(call.mask, call.video, call.uniform_mask)
        text_tokens = tokens - math.prod(call.grid)
        return cls(batch, heads, head_dim, call.grid, text_tokens, _name(call.query.dtype), mask, call.backend)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Shape:
        """Read back what `dataclasses.asdict` gave, also after JSON turned tuples into lists."""
        mask = values["mask"]
        if mask is not None:
            mask = Masking(**{**mask, "shape": tuple(mask["shape"]), "hidden": tuple(mask["hidden"])})
        return cls(**{**values, "grid": tuple(values["grid"]), "mask": mask})


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _masking(mask: torch.Tensor, video: slice, uniform: bool) -> Masking:
    """A mask of shape (batch or 1, heads or 1, queries or 1, keys or 1), as its first query sees it."""
    shown = mask[:, 0, 0]
    hidden = ~shown if mask.dtype == torch.bool else shown <= torch.finfo(mask.dtype).min / 2
    of_text = [hidden[:, : video.start], hidden[:, video.stop :]] if mask.shape[3] > 1 else []
    counts = sum((part.sum(1) for part in of_text), torch.zeros(len(mask), dtype=torch.int64, device=mask.device))
    batch, heads, queries, keys = mask.shape
    return Masking((batch, heads, queries, keys), _name(mask.dtype), tuple(counts.tolist()), uniform)


@dataclass(frozen=True)
class Sites:
    """The attention sites of a model.

    Attributes:
        shapes: of their attention calls, each once.
        shape_of: (blocks,) which of them each block has.
        calls: attention calls of a block in one step.
        projection_ratios: (blocks,) what the rest of a block's attention module takes, as a multiple of what its
            attention calls take; empty where it was not measured.
        attention_share: what all attention calls take of a step, both timed in the same steps; None where it was not
            measured.
    """

    shapes: tuple[Shape, ...]
    shape_of: tuple[int, ...]
    calls: int
    projection_ratios: tuple[float, ...] = ()
    attention_share: float | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Sites:
        """Read back what `dataclasses.asdict` gave, also after JSON turned tuples into lists."""
        shapes = tuple(Shape.from_dict(shape) for shape in values["shapes"])
        ratios = tuple(values.get("projection_ratios", ()))
        return cls(shapes, tuple(values["shape_of"]), values["calls"], ratios, values.get("attention_share"))


def look_at_sites(runner: Runner, prompt: str) -> Sites:
    """Warm up, see the attention calls of the first step, and time the attention modules of the next ones."""
    shapes: dict[int, Shape] = {}  # by block
    calls: Counter[int] = Counter()
    clock = ModuleClock(runner.device)

    def look(call: asymrnr.AttentionCall) -> None:
        if call.step == 0:
            shapes.setdefault(call.block, Shape.of(call))
            calls[call.block] += 1
        else:
            clock.repeat(call)

    modules = [self_attentions(model, find_adapter(base_model(model))) for model in runner.denoisers]
    with ExitStack() as stack:
        for block, module in (pair for found in modules for pair in enumerate(found)):
            stack.callback(clock.watch(block, module))
        with asymrnr.observe(runner.pipe, look):
            step_seconds = runner.time_steps(WARM_UP, prompt)
    distinct = list(dict.fromkeys(shapes.values()))
    shape_of = tuple(distinct.index(shapes[block]) for block in sorted(shapes))
    weights = [tuple(weight.shape for weight in modules[0][block].parameters()) for block in sorted(shapes)]
    ratios = clock.ratios(list(zip(shape_of, weights, strict=True)))
    return Sites(tuple(distinct), shape_of, max(calls.values()), ratios, clock.attention_share(step_seconds))


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
            mask=shape.mask,
            backend=shape.backend,
        )
        for shape in sites.shapes
    )
    latency = SiteLatency(surfaces, sites.shape_of, sites.calls)
    if not sites.projection_ratios:
        return latency
    seconds = np.array(sites.projection_ratios) * latency.attention_seconds(0.0, 0.0)
    return replace(latency, projections=tuple(seconds.tolist()))


def latency_model(
    sites: SiteLatency, step_seconds: float, steps: int, attention_share: float | None = None
) -> LatencyModel:
    """The model before anything but the micro-benchmarks was measured; see `tuner.latency.fit`.

    Micro-benchmarks and steps are timed at different moments, in which a busy machine has different paces. What
    attention is of a step was timed within steps, so that it tells how much faster or slower the former ran.

    What a step takes beyond its attention modules is the rest, which no schedule changes. Modules that were timed to
    take longer than the step they are a part of are taken to be all of it.

    Args:
        sites: what the attention calls and modules take.
        step_seconds: wall time of one unaccelerated denoising step.
        steps: denoising steps of one generation.
        attention_share: what the attention calls take of it; None trusts in an even pace.
    """
    pace = 1.0 if attention_share is None else attention_share * step_seconds / sites.full_seconds
    within = min(pace, step_seconds / (sites.full_seconds + float(sites.projection_seconds.sum())))
    covariance = pace**2 * np.array(PRIOR_COVARIANCE)
    return LatencyModel(
        sites,
        steps,
        step_seconds,
        Coefficients(attention=within, gathering=pace, matching=pace, projection=within),
        tuple(map(tuple, covariance.tolist())),
    )
