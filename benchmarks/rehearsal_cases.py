"""The real models that are rehearsed: one block of each kind, of the true configuration but for fewer heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import diffusers
import torch
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from full_size import Inputs, cogvideox_inputs, hunyuan_inputs, mochi_inputs

from asymrnr.partition import Grid
from tuner.paper.architectures import Block, cogvideox_blocks, crossed_blocks, hunyuan_blocks, mochi_blocks


@dataclass(frozen=True)
class Case:
    """What is rehearsed of a model.

    Attributes:
        entry: whose search space is profiled.
        build: the transformer, of so many heads.
        inputs: from (batch, grid, text tokens, device, small), without the timestep.
        blocks_of: what the blocks built spend, of a width.
        grid, text, batch: of one pass.
        head_dim, heads, blocks, calls: of the real model; calls of a block in a step.
        steps: of a generation.
        rehearsed: heads here.
    """

    entry: str
    build: Callable[[int], torch.nn.Module]
    inputs: Callable[[int, Grid, int, str, bool], Inputs]
    blocks_of: Callable[[int], tuple[Block, ...]]
    grid: Grid
    text: int
    batch: int
    head_dim: int
    heads: int
    blocks: int
    calls: int
    steps: int
    rehearsed: int = 1


def rotary_inputs(batch: int, grid: Grid, text: int, device: str, small: bool) -> Inputs:
    """CogVideoX-5B turns queries and keys by their place."""
    rotary = get_3d_rotary_pos_embed(64, ((0, 0), grid[1:]), grid[1:], grid[0])
    return {**cogvideox_inputs(batch, grid, text, device, small), "image_rotary_emb": rotary}


def wan_inputs(batch: int, grid: Grid, text: int, device: str, small: bool) -> Inputs:
    frames, height, width = grid
    return {
        "hidden_states": torch.randn(batch, 16, frames, 2 * height, 2 * width, device=device),
        "encoder_hidden_states": torch.randn(batch, text, 4096, device=device),
    }


def cogvideox(rotary: bool) -> Callable[[int], torch.nn.Module]:
    return lambda heads: diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=heads, num_layers=1, use_rotary_positional_embeddings=rotary
    )


def hunyuan(heads: int) -> torch.nn.Module:
    return diffusers.HunyuanVideoTransformer3DModel(num_attention_heads=heads, num_layers=1, num_single_layers=1)


def mochi(heads: int) -> torch.nn.Module:
    return diffusers.MochiTransformer3DModel(num_attention_heads=heads, num_layers=2)


def wan(heads: int) -> torch.nn.Module:
    return diffusers.WanTransformer3DModel(num_attention_heads=heads, ffn_dim=13824 * heads // 40, num_layers=1)


def hunyuan_case(entry: str, grid: Grid, steps: int) -> Case:
    blocks_of: Callable[[int], tuple[Block, ...]] = lambda width: hunyuan_blocks(width, 1, 1)  # noqa: E731
    return Case(entry, hunyuan, hunyuan_inputs, blocks_of, grid, 256, 1, 128, 24, 60, 1, steps)


CASES = {
    "CogVideoX-2B": Case(
        *("cogvideox-2b", cogvideox(False), cogvideox_inputs, lambda width: cogvideox_blocks(width, 1)),
        *((13, 30, 45), 226, 2, 64, 30, 30, 1, 50),
    ),
    "CogVideoX-5B": Case(
        *("cogvideox-5b", cogvideox(True), rotary_inputs, lambda width: cogvideox_blocks(width, 1)),
        *((13, 30, 45), 226, 2, 64, 48, 42, 1, 50),
    ),
    "Mochi": Case(
        *("mochi", mochi, mochi_inputs, lambda width: mochi_blocks(width, 1536, 2)),
        *((15, 30, 53), 256, 2, 128, 24, 48, 2, 30),
    ),
    "Wan 14B, 480 lines": Case(
        *("wan-14b-i2v", wan, wan_inputs, lambda width: crossed_blocks(width, 13824 * width // 5120, 1)),
        *((21, 30, 52), 512, 1, 128, 40, 40, 2, 50),
    ),
    "FastVideo-Hunyuan": hunyuan_case("fastvideo-hunyuan", (17, 45, 80), 6),
    "HunyuanVideo, 544 lines": hunyuan_case("hunyuanvideo", (33, 34, 60), 30),
    "HunyuanVideo, 720 lines": hunyuan_case("hunyuanvideo", (33, 45, 80), 50),
}
