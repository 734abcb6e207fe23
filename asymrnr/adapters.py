"""What has to be known of a denoiser: where its self-attention is, where video tokens lie, what its grid is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from asymrnr.errors import InterceptionError
from asymrnr.partition import Grid

GridOf = Callable[[torch.nn.Module, Mapping[str, Any]], Grid]


@dataclass(frozen=True)
class Adapter:
    """Facts about one denoiser class.

    Attributes:
        sites: regular expression over module names; the i-th match is block i of a schedule.
        grid: (t, h, w) token grid, from the module and the arguments of its forward call.
        video: whether video tokens come first or last in the joint sequence.
    """

    sites: str
    grid: GridOf
    video: Literal["first", "last"] = "first"


def _patched(frames: int, height: int, width: int) -> GridOf:
    """Grid from latents whose frames, height and width stand at these dimensions, divided by the patch size."""

    def grid(module: torch.nn.Module, arguments: Mapping[str, Any]) -> Grid:
        shape, config = arguments["hidden_states"].shape, module.config
        patch, patch_t = config.patch_size, getattr(config, "patch_size_t", None) or 1
        t, h, w = patch if isinstance(patch, tuple | list) else (patch_t, patch, patch)
        return (max(1, shape[frames] // t), shape[height] // h, shape[width] // w)

    return grid


ADAPTERS: Mapping[str, Adapter] = {
    "CogVideoXTransformer3DModel": Adapter(r"transformer_blocks\.\d+\.attn1", _patched(1, 3, 4), video="last"),
    "MochiTransformer3DModel": Adapter(r"transformer_blocks\.\d+\.attn1", _patched(2, 3, 4)),
    "WanTransformer3DModel": Adapter(r"blocks\.\d+\.attn1", _patched(2, 3, 4)),
    "LTXVideoTransformer3DModel": Adapter(
        r"transformer_blocks\.\d+\.attn1", lambda _, a: (a["num_frames"], a["height"], a["width"])
    ),
}


def adapter_for(denoiser: torch.nn.Module) -> Adapter:
    """The adapter of a denoiser's class.

    Raises:
        InterceptionError: there is none; the message lists the classes there are.
    """
    name = type(denoiser).__name__
    if name not in ADAPTERS:
        raise InterceptionError(f"{name} is not supported; supported are {', '.join(sorted(ADAPTERS))}.")
    return ADAPTERS[name]
