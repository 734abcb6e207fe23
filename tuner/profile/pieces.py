"""Attention tensors piece by piece, so that what is computed of them takes little memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from tuner.ceilings import PIECE_BYTES

FLOAT_BYTES = 4


def head_pieces(x: torch.Tensor) -> Iterator[tuple[slice, slice]]:
    """Batch items and heads of (batch, heads, tokens, head dim), as many at a time as fit a piece; at least one."""
    batch, heads, tokens, dim = x.shape
    together = max(1, PIECE_BYTES // (FLOAT_BYTES * tokens * dim))
    for item in range(batch):
        for head in range(0, heads, together):
            yield slice(item, item + 1), slice(head, head + together)


def token_pieces(x: torch.Tensor) -> Iterator[slice]:
    """Tokens of (batch, tokens, dim), as many at a time as fit a piece; at least one."""
    batch, tokens, dim = x.shape
    together = max(1, PIECE_BYTES // (FLOAT_BYTES * batch * dim))
    for start in range(0, tokens, together):
        yield slice(start, min(start + together, tokens))


def squared_norm(x: torch.Tensor) -> float:
    """Sum of the squares of (batch, heads, tokens, head dim), in float32."""
    return float(sum(x[piece].float().square().sum().double() for piece in head_pieces(x)))


def head_stride(batch: int, heads: int, tokens: int, most: int) -> int:
    """Every so manyth head has at most so many tokens in all; one head always stays."""
    return min(heads, max(1, -(-batch * heads * tokens // most)))
