"""A second pipeline on the same weights: own processors, hooks, caches and sampler, no second set of tensors."""

from __future__ import annotations

import copy

from diffusers import DiffusionPipeline
from torch import nn

from asymrnr.install import is_compiled

DENOISER_NAMES = ("transformer", "transformer_2", "unet")


class NoTwinError(Exception):
    """A pipeline cannot be doubled; the message says why."""


def twin_module(module: nn.Module) -> nn.Module:
    """A deep copy that shares every parameter and buffer with the original.

    Raises:
        NoTwinError: something in it cannot be copied, or belongs to the original alone.
    """
    if is_compiled(module):
        raise NoTwinError("the denoiser is compiled")
    for part in module.modules():
        if hasattr(part, "_hf_hook"):
            raise NoTwinError("parts of the denoiser are moved by offloading hooks")
        registry = getattr(part, "_diffusers_hook", None)
        if registry is not None and registry.hooks:
            raise NoTwinError("a cache or another hook of diffusers is installed in the denoiser already")
    tensors = [*module.parameters(), *module.buffers()]
    try:
        return copy.deepcopy(module, {id(tensor): tensor for tensor in tensors})
    except (TypeError, RuntimeError, AttributeError) as error:
        raise NoTwinError(f"the denoiser cannot be copied ({error})") from error


def twin_pipeline(pipe: DiffusionPipeline) -> DiffusionPipeline:
    """The pipeline once more, with twins of its denoisers, a sampler and a guider of its own; all else is shared.

    Raises:
        NoTwinError: see `twin_module`.
    """
    twin = copy.copy(pipe)
    twin.scheduler = copy.deepcopy(pipe.scheduler)
    if getattr(pipe, "guider", None) is not None:  # counts the calls of a step
        twin.guider = copy.deepcopy(pipe.guider)
    for name in DENOISER_NAMES:
        part = getattr(pipe, name, None)
        if isinstance(part, nn.Module):
            setattr(twin, name, twin_module(part))
    return twin
