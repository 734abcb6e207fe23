"""A pipeline or denoiser, as the denoisers and the self-attention modules in it."""

from __future__ import annotations

from typing import Any

from torch import nn

from asymrnr.adapters import find_adapter
from asymrnr.engine import Engine
from asymrnr.errors import InterceptionError
from asymrnr.install import base_model, self_attentions
from asymrnr.intercept import SITE_ATTRIBUTE, is_proxy


def denoisers(target: Any) -> list[nn.Module]:
    """The denoisers of a diffusers pipeline, compiled or not; one by itself is its own.

    Raises:
        InterceptionError: there is none.
    """
    if isinstance(target, nn.Module):
        return [target]
    parts = (getattr(target, name, None) for name in ("transformer", "transformer_2", "unet"))
    models = [part for part in parts if isinstance(part, nn.Module)]
    if not models:
        raise InterceptionError(f"{type(target).__name__} is no diffusers pipeline or denoiser; pass one of these.")
    return models


def sites(target: Any) -> list[list[nn.Module]]:
    """The self-attention modules of every denoiser, whatever is applied to them.

    Raises:
        InterceptionError: the model is unknown.
    """
    models = denoisers(target)
    adapter = find_adapter(base_model(models[0]))
    return [self_attentions(model, adapter) for model in models]


def engine_of(target: Any) -> Engine | None:
    """What is applied to a pipeline or denoiser, if anything is.

    Raises:
        InterceptionError: the model is unknown.
    """
    for modules in sites(target):
        for module in modules:
            if is_proxy(module.processor):
                engine: Engine = getattr(module.processor, SITE_ATTRIBUTE).engine
                return engine
    return None
