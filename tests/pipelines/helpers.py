"""Runs tiny pipelines the same way every time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

from asymrnr.adapters import find_adapter
from asymrnr.install import find_sites
from asymrnr.schedule import Schedule
from tests.pipelines.tiny_pipelines import tiny_entry
from tuner.models import denoisers


def traces(pipe: DiffusionPipeline) -> dict[str, tuple[Any, ...]]:
    """What a test could leave behind on a pipeline's scheduler and every module of its denoisers."""
    found: dict[str, tuple[Any, ...]] = {"scheduler": (type(pipe.scheduler), "set_timesteps" in vars(pipe.scheduler))}
    for index, denoiser in enumerate(denoisers(pipe)):
        for name, module in denoiser.named_modules():
            caches = getattr(module, "_diffusers_hook", None)
            found[f"{index}.{name}"] = (
                module.training,
                list(module._forward_pre_hooks),
                list(module._forward_hooks),
                list(caches.hooks) if caches else [],
                [attribute for attribute in ("forward", "cache_context") if attribute in vars(module)],
                getattr(module, "processor", None),
                [(weight.data_ptr(), weight._version) for weight in module._parameters.values() if weight is not None],
            )
    return found


@contextmanager
def left_as_found(pipe: DiffusionPipeline) -> Iterator[None]:
    """Fails where a shared pipeline was changed, and not at whoever uses it next."""
    before = traces(pipe)
    yield
    after = traces(pipe)
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    assert not changed, f"{type(pipe).__name__} was left changed at {changed[:3]}"


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
