"""What the matching kernel costs beside attention at the real models' shapes, from operations and memory traffic alone.

An estimate, and a bound: both are taken to run at the peaks of a card, the kernel as fast as its tiles can be read from
the second-level cache. `benchmarks/full_size.py` measures it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from asymrnr.partition import Grid

TERA = 1e12


@dataclass(frozen=True)
class Peak:
    """Of a card: 10^12 operations a second with bfloat16, and bytes a second of its memory and second-level cache.

    Published by the vendor, but for the cache's bandwidth, which others measured.
    """

    title: str
    operations: float
    memory: float
    cache: float


PEAKS = (Peak("H100 SXM", 989e12, 3.35e12, 5.5e12), Peak("RTX 4090", 165e12, 1.01e12, 5.0e12))


@dataclass(frozen=True)
class Estimate:
    """Of one attention call, in operations and seconds.

    Attributes:
        matching_operations, attention_operations: of one feature, and of the whole call.
        matching_bytes, cache_bytes: that matching reads of memory, and of the cache.
        matching, attention: seconds at a card's peaks.
    """

    matching_operations: float
    attention_operations: float
    matching_bytes: float
    cache_bytes: float
    matching: float
    attention: float


def estimate(grid: Grid, text: int, heads: int, head_dim: int, stride: Grid, on: Peak, sources: int) -> Estimate:
    """One feature matched, beside one attention call.

    Args:
        grid, text, heads, head_dim: of the call; heads of all its batch items.
        stride: of the partition.
        on: the card.
        sources: that a program of the kernel holds, for which it reads all destinations.
    """
    tokens, size = math.prod(grid), torch.bfloat16.itemsize
    n_dst = math.prod(-(-g // min(s, g)) for g, s in zip(grid, stride, strict=True))
    n_src = tokens - n_dst
    matching = 2 * n_src * n_dst * head_dim * heads
    attention = 4 * (tokens + text) ** 2 * head_dim * heads
    read = (tokens + n_dst) * head_dim * heads * size + n_src * heads * 8
    cached = -(-n_src // sources) * n_dst * head_dim * heads * size
    least = max(matching / on.operations, read / on.memory, cached / on.cache)
    whole = 4 * (tokens + text) * head_dim * heads * size
    return Estimate(matching, attention, read, cached, least, max(attention / on.operations, whole / on.memory))
