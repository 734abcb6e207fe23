"""What profiling keeps and works with, from shapes; tests and `benchmarks/rehearsal.py` hold it against allocations."""

from __future__ import annotations

import math
from dataclasses import dataclass

from asymrnr.matching import LARGEST_SHARE
from asymrnr.partition import Grid
from tuner.ceilings import FOLLOWED, MATCHED_TOKENS, PIECE_BYTES, SOURCES
from tuner.profile.pieces import FLOAT_BYTES, head_stride
from tuner.profile.settings import ProfilerSettings
from tuner.strides import parse_stride

INDEX_BYTES = 4
PAIR_BYTES = 2 * INDEX_BYTES  # a source and its destination
RANK_BYTES = 8
MATCHING_BYTES = 32  # of a source while it is matched: distances, their order as int64 and int32, destinations
PIECES = 6  # in use at a time: keys, weights, and what is gathered of values
FEATURES = 2  # Q and V


@dataclass(frozen=True)
class CallShape:
    """One attention call.

    Attributes:
        batch, heads, head_dim: numbers of each.
        grid: (frames, height, width) in tokens.
        itemsize: bytes of a number.
    """

    batch: int
    heads: int
    head_dim: int
    grid: Grid
    itemsize: int

    @property
    def tokens(self) -> int:
        """Of the video, in all heads and items."""
        return self.batch * self.heads * math.prod(self.grid)


def kept_bytes(shape: CallShape, settings: ProfilerSettings) -> float:
    """What is kept of one attention call of every step, matchings of all candidates followed over their windows."""
    tokens = shape.tokens
    every = head_stride(shape.batch, shape.heads, math.prod(shape.grid), MATCHED_TOKENS)
    values = tokens * -(-shape.heads // every) / shape.heads
    sampled = [min(SOURCES, tokens * (1 - _share(stride))) for stride in settings.strides]
    queries = sum(sampled) * (PAIR_BYTES + RANK_BYTES / (shape.batch * shape.heads))  # all heads share their ranks
    followed = min(FOLLOWED, settings.memory_samples * shape.batch * shape.heads, tokens) * settings.memory_gaps
    persistent = FEATURES * (
        min(SOURCES, tokens) * INDEX_BYTES + 8 * math.prod(shape.grid) * _share(settings.strides[0])
    )
    matched = len(settings.cache_steps) * (queries + values * len(settings.strides)) if settings.rates else 0.0
    return matched + followed * (2 * shape.head_dim * shape.itemsize + PAIR_BYTES) + persistent


def passing_bytes(shape: CallShape) -> float:
    """What an attention call takes while it is looked at."""
    hidden = shape.tokens * shape.head_dim * FLOAT_BYTES
    return MATCHING_BYTES * shape.tokens + PIECES * min(PIECE_BYTES, hidden) + LARGEST_SHARE


def _share(stride: str) -> float:
    """Of destinations."""
    return 1 / math.prod(parse_stride(stride))
