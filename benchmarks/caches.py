"""The caches of diffusers as methods to measure, installed the way its documentation says."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import (
    CogVideoXPipeline,
    FasterCacheConfig,
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    SeaCacheConfig,
    TaylorSeerCacheConfig,
)
from lockstep_methods import Install

from asymrnr.adapters import find_adapter
from tuner.run.runner import Runner
from tuner.work.caches import magnitude_ratios

Timesteps = tuple[int, int]
CALIBRATION_SEED = 9_000_000
FRAMES_FIRST = "BFCHW"
LEAST_FACTORS = 2  # full steps that TaylorSeer needs for a first derivative


def cached(configure: Callable[[Runner], Any]) -> Install:
    """Installs the cache that a function of the runner configures."""

    @contextmanager
    def install(runner: Runner) -> Iterator[None]:
        denoiser: Any = runner.denoiser
        denoiser.enable_cache(configure(runner))
        try:
            yield
        finally:
            denoiser.disable_cache()

    return install


def timestep_of(runner: Runner) -> Callable[[], int]:
    """Tells a cache where the pipeline is."""
    pipe: Any = runner.pipe
    return lambda: pipe.current_timestep


def layout_of(runner: Runner) -> str:
    """Of the latents: batch, frames, channels, height and width in the pipeline's order."""
    return FRAMES_FIRST if isinstance(runner.pipe, CogVideoXPipeline) else "BCFHW"


def pyramid(skip_range: int, timesteps: Timesteps) -> Install:
    """Pyramid Attention Broadcast: attention of every so manieth step between two timesteps."""
    return cached(
        lambda runner: PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=skip_range,
            spatial_attention_timestep_skip_range=timesteps,
            current_timestep_callback=timestep_of(runner),
        )
    )


def first_block(threshold: float) -> Install:
    """FirstBlockCache: the other blocks are left out where the first one's residual has hardly changed."""
    return cached(lambda runner: FirstBlockCacheConfig(threshold=threshold))


def faster(skip_range: int, timesteps: Timesteps) -> Install:
    """FasterCache without guidance: attention extrapolated from the last two, as for a distilled model."""
    return cached(
        lambda runner: FasterCacheConfig(
            spatial_attention_block_skip_range=skip_range,
            spatial_attention_timestep_skip_range=timesteps,
            tensor_format=layout_of(runner),
            is_guidance_distilled=True,
            current_timestep_callback=timestep_of(runner),
        )
    )


def faster_guided() -> Install:
    """FasterCache as documented: it approximates the unconditional branch, too."""
    return cached(
        lambda runner: FasterCacheConfig(tensor_format=layout_of(runner), current_timestep_callback=timestep_of(runner))
    )


def _taylor(interval: int, lead: int, **others: Any) -> TaylorSeerCacheConfig:
    return TaylorSeerCacheConfig(
        cache_interval=interval,
        disable_cache_before_step=max(lead, LEAST_FACTORS),
        taylor_factors_dtype=torch.float32,
        **others,
    )


def taylor_default() -> Install:
    """TaylorSeer as it comes; its patterns have to match whole names of modules."""
    return cached(lambda runner: TaylorSeerCacheConfig())


def taylor_attention(interval: int, lead: int) -> Install:
    """TaylorSeer on the attention modules, after so many full steps."""
    return cached(lambda runner: _taylor(interval, lead, cache_identifiers=[find_adapter(runner.denoiser).sites]))


def taylor_lite(interval: int, lead: int) -> Install:
    """TaylorSeer of the whole denoiser's output; blocks are left out altogether."""
    return cached(lambda runner: _taylor(interval, lead, use_lite_mode=True))


def mag(threshold: float) -> Install:
    """MagCache, calibrated on a tuning prompt."""
    return cached(
        lambda runner: MagCacheConfig(
            threshold=threshold,
            num_inference_steps=runner.entry.workload.steps,
            mag_ratios=ratios_of(runner),
        )
    )


@functools.cache
def ratios_of(runner: Runner) -> list[float]:
    """What MagCache has to be told of the model, from a tuning prompt."""
    return magnitude_ratios(runner, runner.entry.tuning_prompts(1)[0], CALIBRATION_SEED)


def sea() -> Install:
    """SeaCache, told which of the denoiser's inputs the latents are."""

    def configure(runner: Runner) -> SeaCacheConfig:
        frames_first = layout_of(runner) == FRAMES_FIRST

        def latents(_: Any, __: tuple[Any, ...], inputs: dict[str, Any]) -> list[torch.Tensor]:
            states = inputs["hidden_states"]
            return list((states.transpose(1, 2) if frames_first else states).unbind(0))

        return SeaCacheConfig(raw_vision_callback=latents)

    return cached(configure)
