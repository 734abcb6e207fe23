"""What an observer of a model's self-attention gets to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from asymrnr.partition import Grid


@dataclass(frozen=True)
class AttentionCall:
    """One call of the attention operation at a site, after RoPE and before any backend.

    Attributes:
        block: row of the rate tables.
        step: denoising step of this generation, from 0.
        timestep: the sampler's timestep.
        branch: CFG branch, or the call's order within the step.
        call: index of this site's call within the forward pass (Mochi: batch item).
        grid: (frames, height, width) in tokens.
        video: where the video tokens lie in the joint sequence.
        query, key, value: (batch, heads, joint tokens, head dim), views.
        output: (batch, heads, joint tokens, head dim), a view.
        hidden: (batch, video tokens, channels), the hidden states entering the attention processor.
    """

    block: int
    step: int
    timestep: float
    branch: str
    call: int
    grid: Grid
    video: slice
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    output: torch.Tensor
    hidden: torch.Tensor


Observer = Callable[[AttentionCall], None]
