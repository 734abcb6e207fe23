"""What an observer of a model's self-attention gets to see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from asymrnr.call import Call
from asymrnr.partition import Grid
from asymrnr.tracker import StepTracker


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
        mask: of the attention, (batch or 1, heads or 1, queries or 1, keys or 1), see `widen_mask`; None without one.
        uniform_mask: masks never hide single video tokens (see `ModelAdapter`).
        backend: name of diffusers' attention backend, "" the active one; None where torch's own is called directly.
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
    mask: torch.Tensor | None = None
    uniform_mask: bool = False
    backend: str | None = None

    @classmethod
    def of(
        cls,
        call: Call,
        block: int,
        tracker: StepTracker,
        output: torch.Tensor,
        hidden: torch.Tensor,
        uniform_mask: bool,
        backend: str | None,
    ) -> AttentionCall:
        """One that has just been computed.

        Args:
            call: what was computed.
            tracker: where the generation is.
            output: as the operation gave it.
            block: see the attribute of that name, as for what follows.
            hidden: (batch, video tokens, channels).
            uniform_mask: whether masks never hide single video tokens.
            backend: name of diffusers' attention backend.
        """
        assert tracker.timestep is not None
        return cls(
            block=block,
            step=tracker.step,
            timestep=tracker.timestep,
            branch=tracker.branch,
            call=call.index,
            grid=call.grid,
            video=call.video,
            query=call.query,
            key=call.key,
            value=call.value,
            output=call.turn(output),
            hidden=hidden,
            mask=call.mask(),
            uniform_mask=uniform_mask,
            backend=backend,
        )


Observer = Callable[[AttentionCall], None]
