"""Runs tiny pipelines the same way every time."""

from __future__ import annotations

import numpy as np
import torch
from diffusers import DiffusionPipeline

from asymrnr.adapters import find_adapter
from asymrnr.install import find_sites
from asymrnr.schedule import Schedule
from tests.pipelines.tiny_pipelines import tiny_entry
from tuner.models import denoisers


def latents(pipe: DiffusionPipeline, name: str, steps: int = 3) -> torch.Tensor:
    """Final latents of one generation with a fixed seed; nothing is decoded."""
    workload = tiny_entry(name, steps).workload.call_kwargs()
    if name == "animatediff":
        del workload["max_sequence_length"]
    generator = torch.Generator().manual_seed(0)
    return pipe("a cat", generator=generator, output_type="latent", **workload).frames


def schedule(pipe: DiffusionPipeline, q: float, v: float, steps: int = 3, cache_step: int = 2) -> Schedule:
    """One rate for every site of the denoiser."""
    denoiser = denoisers(pipe)[0]
    blocks = len(find_sites(denoiser, find_adapter(denoiser)))
    rates = {feature: np.full((blocks, steps), rate) for feature, rate in (("Q", q), ("V", v)) if rate > 0}
    return Schedule(rates=rates or {"Q": np.zeros((blocks, steps))}, cache_step=cache_step)
