"""What has to be known about a model: where its self-attention is, and which token grid it works on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from asymrnr.errors import InterceptionError
from asymrnr.partition import Grid

Grids = Callable[[nn.Module, Mapping[str, Any]], list[Grid]]


@dataclass(frozen=True)
class ModelAdapter:
    """Facts about one denoiser class.

    Attributes:
        sites: regular expression over module names; the i-th match is row i of the rate tables.
        grids: token grids (frames, height, width) from the model and its forward arguments, largest first.
        video: where the video tokens are in the attention sequence: "first" or "last" beside text, or "only".
        mask: what the processor's `attention_mask` covers: the "joint" sequence, the "video" tokens, or "other".
        uniform_mask: masks never hide single video tokens.
        residual: the blocks with the sites are called one after another, each with what the one before it made of the
            video tokens, and add to them; nothing else changes them in between.
    """

    sites: str
    grids: Grids
    video: Literal["first", "last", "only"] = "only"
    mask: Literal["joint", "video", "other"] = "other"
    uniform_mask: bool = False
    residual: bool = False


_ADAPTERS: dict[str, ModelAdapter] = {}


def register_adapter(
    class_name: str,
    *,
    sites: str,
    grids: Grids,
    video: Literal["first", "last", "only"] = "only",
    mask: Literal["joint", "video", "other"] = "other",
    uniform_mask: bool = False,
    residual: bool = False,
) -> None:
    """Make a denoiser class known; see `ModelAdapter` for the arguments."""
    _ADAPTERS[class_name] = ModelAdapter(sites, grids, video, mask, uniform_mask, residual)


def find_adapter(model: nn.Module) -> ModelAdapter:
    """The adapter of a model's class or of the nearest base class.

    Raises:
        InterceptionError: none is registered.
    """
    for cls in type(model).__mro__:
        if cls.__name__ in _ADAPTERS:
            return _ADAPTERS[cls.__name__]
    raise InterceptionError(
        f"{type(model).__name__} is not a known denoiser (known: {', '.join(known_denoisers())}); "
        "describe it with register_adapter."
    )


def known_denoisers() -> tuple[str, ...]:
    """Names of the classes that have an adapter, in alphabetical order."""
    return tuple(sorted(_ADAPTERS))


def patch_of(model: nn.Module) -> Grid:
    """Latents (frames, height, width) in a token, from config.patch_size (int or 3-tuple) and config.patch_size_t."""
    config: Any = model.config
    patch = getattr(config, "patch_size", 1)
    if isinstance(patch, tuple | list):
        return (patch[0], patch[1], patch[2])
    return (getattr(config, "patch_size_t", None) or 1, patch, patch)


def _patched(frame_axis: int, height_axis: int, width_axis: int) -> Grids:
    """Grid of a 5-D latent cut into patches."""

    def grids(model: nn.Module, arguments: Mapping[str, Any]) -> list[Grid]:
        shape, patch = arguments["hidden_states"].shape, patch_of(model)
        return [(max(1, shape[frame_axis] // patch[0]), shape[height_axis] // patch[1], shape[width_axis] // patch[2])]

    return grids


def _packed(model: nn.Module, arguments: Mapping[str, Any]) -> list[Grid]:
    return [(arguments["num_frames"], arguments["height"], arguments["width"])]


def _image_levels(model: nn.Module, arguments: Mapping[str, Any]) -> list[Grid]:
    """One frame at every resolution of a U-Net, whose down-sampling rounds up."""
    height, width = arguments["sample"].shape[-2:]
    config: Any = model.config
    return [(1, -(-height // 2**level), -(-width // 2**level)) for level in range(len(config.block_out_channels))]


_BLOCKS = r"transformer_blocks\.\d+\.attn1"
register_adapter("CogVideoXTransformer3DModel", sites=_BLOCKS, grids=_patched(1, 3, 4), video="last", residual=True)
register_adapter("MochiTransformer3DModel", sites=_BLOCKS, grids=_patched(2, 3, 4), video="first", residual=True)
register_adapter("ConsisIDTransformer3DModel", sites=_BLOCKS, grids=_patched(1, 3, 4), video="last")
for _name in ("Wan", "WanVACE", "SkyReelsV2", "ChronoEdit"):
    register_adapter(
        f"{_name}Transformer3DModel",
        sites=r"blocks\.\d+\.attn1",
        grids=_patched(2, 3, 4),
        residual=_name == "Wan",  # WanVACE adds what it is steered by between blocks; the others were not tried
    )
register_adapter("LTXVideoTransformer3DModel", sites=_BLOCKS, grids=_packed, residual=True)
register_adapter("LTX2VideoTransformer3DModel", sites=_BLOCKS, grids=_packed)  # not the attention of its sound
register_adapter("AllegroTransformer3DModel", sites=_BLOCKS, grids=_patched(2, 3, 4), mask="video")
register_adapter(
    "HunyuanVideoTransformer3DModel",
    sites=r"(single_)?transformer_blocks\.\d+\.attn",
    grids=_patched(2, 3, 4),
    video="first",
    mask="joint",
    uniform_mask=True,
    residual=True,
)
register_adapter(
    "HunyuanVideo15Transformer3DModel",
    sites=r"transformer_blocks\.\d+\.attn",
    grids=_patched(2, 3, 4),
    video="first",
    uniform_mask=True,
)
register_adapter(
    "UNetMotionModel",
    sites=r"(down_blocks\.\d+|mid_block|up_blocks\.\d+)\.attentions\.\d+\.transformer_blocks\.\d+\.attn1",
    grids=_image_levels,
)
