"""Times a model without a schedule: its steps, its attention calls, and the latency model made of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

import asymrnr
from tuner.profile.latency import LatencySurface
from tuner.runner import Runner
from tuner.surrogate.latency import LatencyModel

WARM_UP, TIMED, BURSTS = 2, 4, 2
SURFACE_SECONDS = 2.0


@dataclass(frozen=True)
class Site:
    """The attention of one site as the model really calls it; dtype is torch's name for it."""

    sites: int
    batch: int
    heads: int
    head_dim: int
    grid: tuple[int, int, int]
    text_tokens: int
    dtype: str


def look_at_site(runner: Runner, prompt: str) -> Site:
    """Warm up, and see the attention calls of the first step."""
    calls: list[asymrnr.AttentionCall] = []

    def keep_first(call: asymrnr.AttentionCall) -> None:
        if call.step == 0:
            calls.append(call)

    with asymrnr.observe(runner.pipe, keep_first):
        runner.time_steps(WARM_UP, prompt)
    batch, heads, tokens, head_dim = calls[0].query.shape
    return Site(
        sites=max(call.block for call in calls) + 1,
        batch=batch,
        heads=heads,
        head_dim=head_dim,
        grid=calls[0].grid,
        text_tokens=tokens - math.prod(calls[0].grid),
        dtype=str(calls[0].query.dtype).removeprefix("torch."),
    )


def measure_surface(site: Site, strides: Sequence[str], device: torch.device) -> LatencySurface:
    """The latency surface of the site's shapes, in a few seconds."""
    return LatencySurface.measure(
        heads=site.heads,
        head_dim=site.head_dim,
        grid=site.grid,
        text_tokens=site.text_tokens,
        batch=site.batch,
        strides=strides,
        dtype=getattr(torch, site.dtype),
        device=device,
        budget_seconds=SURFACE_SECONDS,
    )


def latency_model(surface: LatencySurface, sites: int, step_seconds: float, steps: int) -> LatencyModel:
    """What a step takes beyond its attention calls is the rest, which no schedule changes.

    Args:
        surface: of one attention call.
        sites: attention sites of the model.
        step_seconds: wall time of one unaccelerated denoising step.
        steps: denoising steps of one generation.
    """
    attention = sites * float(surface.attention_seconds(0.0, 0.0))
    return LatencyModel(surface, sites, steps, rest_seconds=max(0.0, step_seconds - attention) * steps)


def time_model(runner: Runner, prompt: str, strides: Sequence[str]) -> LatencyModel:
    """Look, time and model in one go, for commands that keep no log of measurements.

    Args:
        runner: the model.
        prompt: what the timed steps begin to show.
        strides: strides whose matching is timed.
    """
    site = look_at_site(runner, prompt)
    steps = np.concatenate([runner.time_steps(TIMED + 1, prompt)[1:] for _ in range(BURSTS)])
    surface = measure_surface(site, strides, runner.device)
    return latency_model(surface, site.sites, float(np.median(steps)), runner.entry.workload.steps)
