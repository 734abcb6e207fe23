"""diffusers' caches, which skip attention calls, beside a schedule: complete tiny pipelines."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

import asymrnr
from asymrnr.adapters import find_adapter
from asymrnr.install import find_sites
from asymrnr.schedule import Schedule
from tests.pipelines.helpers import latents
from tests.pipelines.tiny_pipelines import build
from tuner.models import denoisers

STEPS, WINDOW, UNREDUCED = 6, 2, 2
CALLS_PER_STEP = {"wan-1.3b": 2}  # guidance in two calls
MODELS = ("cogvideox-5b", "mochi", "hunyuanvideo", "wan-1.3b", "ltx-video")
ALWAYS = (-1, 1001)  # timesteps


def pyramid(pipe: Any, name: str) -> Any:
    return diffusers.PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=ALWAYS,
        spatial_attention_block_identifiers=(find_adapter(denoisers(pipe)[0]).sites,),
        current_timestep_callback=lambda: pipe.current_timestep,
    )


def first_block(pipe: Any, name: str) -> Any:
    return diffusers.FirstBlockCacheConfig(threshold=1e9)


def faster(pipe: Any, name: str) -> Any:
    """Computes both branches at steps 0, 2 and 4, one at step 5."""
    return diffusers.FasterCacheConfig(
        spatial_attention_block_skip_range=5,
        spatial_attention_timestep_skip_range=ALWAYS,
        unconditional_batch_skip_range=2,
        unconditional_batch_timestep_skip_range=ALWAYS,
        current_timestep_callback=lambda: pipe.current_timestep,
        attention_weight_callback=lambda _: 0.3,
        tensor_format="BFCHW" if name.startswith("cogvideox") else "BCFHW",
    )


def taylor_seer(pipe: Any, name: str) -> Any:
    return diffusers.TaylorSeerCacheConfig(
        cache_interval=2,
        disable_cache_before_step=2,
        taylor_factors_dtype=torch.float32,
        cache_identifiers=[find_adapter(denoisers(pipe)[0]).sites],
    )


def mag(pipe: Any, name: str) -> Any:
    return diffusers.MagCacheConfig(
        threshold=1.0, max_skip_steps=1, num_inference_steps=STEPS, mag_ratios=torch.full((STEPS,), 0.99)
    )


CACHES = (pyramid, first_block, faster, taylor_seer, mag)
FASTER = ("cogvideox-5b", "mochi")  # FasterCache itself fails on the others
PAIRS = [
    pytest.param(cache, name, id=f"{cache.__name__}-{name}")
    for cache in CACHES
    for name in (FASTER if cache is faster else MODELS)
]


@dataclass
class Truth:
    """Which attention modules really computed something, seen from outside the runtime.

    Attributes:
        computed: (blocks, steps) forward passes in which the module's query projection ran.
        matched: all (block, cache window, call within the step, batch size) it ran with where rates are set; Mochi
            matches the items of a batch apart.
    """

    computed: np.ndarray
    matched: set[tuple[int, int, int, int]] = field(default_factory=set)


@contextmanager
def watched(pipe: DiffusionPipeline, calls_per_step: int) -> Iterator[Truth]:
    """Count on the modules that no cache or schedule replaces."""
    denoiser = denoisers(pipe)[0]
    sites = find_sites(denoiser, find_adapter(denoiser))
    truth, calls = Truth(np.zeros((len(sites), STEPS), dtype=int)), [0]

    def on_forward(*_: Any) -> None:
        calls[0] += 1

    def on_projection(block: int, _: Any, args: tuple[torch.Tensor, ...]) -> None:
        step, call = divmod(calls[0] - 1, calls_per_step)
        truth.computed[block, step] += 1
        if step != UNREDUCED:
            truth.matched.add((block, step // WINDOW, call, args[0].shape[0]))

    handles = [denoiser.register_forward_pre_hook(on_forward)]
    for block, site in enumerate(sites):
        handles.append(site.to_q.register_forward_pre_hook(functools.partial(on_projection, block)))
    try:
        yield truth
    finally:
        for handle in handles:
            handle.remove()


def stack(pipe: DiffusionPipeline) -> Schedule:
    """Rates everywhere but at one step, so that a shifted step index shows."""
    denoiser = denoisers(pipe)[0]
    shape = (len(find_sites(denoiser, find_adapter(denoiser))), STEPS)
    rates = {"Q": np.full(shape, 0.5), "V": np.full(shape, 0.4)}
    for table in rates.values():
        table[:, UNREDUCED] = 0
    return Schedule(rates=rates, cache_step=WINDOW)


@pytest.mark.parametrize(("cache", "name"), PAIRS)
def test_skipped_calls_shift_nothing(cache: Callable[[Any, str], Any], name: str) -> None:
    pipe = build(name)
    denoiser: Any = denoisers(pipe)[0]
    schedule, calls_per_step = stack(pipe), CALLS_PER_STEP.get(name, 1)
    plain = latents(pipe, name, STEPS)
    denoiser.enable_cache(cache(pipe, name))
    cached = latents(pipe, name, STEPS)
    with watched(pipe, calls_per_step) as truth, asymrnr.apply(pipe, schedule) as handle:
        both = latents(pipe, name, STEPS)
        summary = handle.summary()
    assert 0 < truth.computed.sum() < truth.computed.size * calls_per_step  # the cache skips something
    for feature, rates in schedule.rates.items():
        assert np.array_equal(summary.reduced[feature], np.where(rates > 0, truth.computed, 0))
    assert summary.steps_seen == STEPS
    assert summary.matches == 2 * sum(batch if name == "mochi" else 1 for *_, batch in truth.matched)
    assert torch.isfinite(both).all()
    assert not torch.equal(both, cached)
    assert torch.equal(latents(pipe, name, STEPS), cached)
    denoiser.disable_cache()
    with asymrnr.apply(pipe, schedule):  # the cache on top of the schedule
        denoiser.enable_cache(cache(pipe, name))
        for _ in range(2):
            assert torch.equal(latents(pipe, name, STEPS), both)
        denoiser.disable_cache()
    assert torch.equal(latents(pipe, name, STEPS), plain)
