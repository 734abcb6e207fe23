"""One attention call, whatever the order of its axes, in full or reduced (paper equation 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from asymrnr.masks import reduce_mask, widen_mask
from asymrnr.partition import Grid
from asymrnr.reduction import Plan

Layout = Literal["bhsd", "bshd"]
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


@dataclass(frozen=True)
class Call:
    """One call of the attention operation at a site.

    Attributes:
        query, key, value: (batch, heads, joint tokens, head dim), views.
        raw_mask: as the operation takes it.
        layout: order of the axes that the operation takes.
        attention: the operation.
        index: which of the site's calls in this forward pass it is (Mochi: batch item).
        grid: token grid.
        video: where the video tokens are in the joint sequence.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    raw_mask: torch.Tensor | None
    layout: Layout
    attention: Attention
    index: int
    grid: Grid
    video: slice

    def turn(self, x: torch.Tensor) -> torch.Tensor:
        """Between the operation's layout and heads first, either way."""
        return x if self.layout == "bhsd" else x.transpose(1, 2)

    def mask(self) -> torch.Tensor | None:
        """See `widen_mask`."""
        if self.raw_mask is None:
            return None
        batch, length = self.query.shape[0], self.query.shape[2]
        return widen_mask(self.raw_mask, batch, length, key_padding=self.layout == "bshd")

    def full(self) -> torch.Tensor:
        """The output in the operation's layout."""
        return self.attention(self.turn(self.query), self.turn(self.key), self.turn(self.value), self.raw_mask)

    def reduced(self, queries: Plan | None, keys: Plan | None, mean: bool, uniform_mask: bool) -> torch.Tensor:
        """The output of reduced tokens, restored by copying, in the operation's layout.

        Args:
            queries, keys: joint plans, or None where nothing is reduced.
            mean: average dropped keys and values into their destination.
            uniform_mask: see `reduce_mask`.
        """
        q, k, v = self.query, self.key, self.value
        if queries is not None:
            q = queries.reduce(q)
        if keys is not None:
            k, v = map(keys.reduce_mean if mean else keys.reduce, (k, v))
        mask = self.mask()
        if mask is not None:
            mask = reduce_mask(mask, queries, keys, self.video, uniform_mask)
        output = self.attention(self.turn(q), self.turn(k), self.turn(v), mask)
        return output if queries is None else self.turn(queries.restore(self.turn(output)))
