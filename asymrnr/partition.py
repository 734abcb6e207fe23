"""Splits the video token grid into destinations, one random token per chunk, and sources (paper section 3.2)."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from typing import get_args

import torch

from asymrnr.errors import ScheduleError
from asymrnr.schedule import Coverage

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class Partition:
    """Destinations and sources as positions in the frame-major flattened grid.

    Attributes:
        grid: (frames, height, width) in tokens.
        stride: (t, h, w) chunk size, never larger than the grid.
        chunks: number of chunks per axis.
        start: (frame, row, column) at which the first chunk begins.
        dst: (n_dst,) int64, one token per chunk, in chunk order.
        src: (n_src,) int64, all other tokens, ascending.
    """

    grid: Grid
    stride: Grid
    chunks: Grid
    start: Grid
    dst: torch.Tensor
    src: torch.Tensor

    @property
    def tokens(self) -> int:
        return math.prod(self.grid)

    def to(self, device: torch.device) -> Partition:
        """The same partition with its positions on a device, on their way there while the program goes on."""
        if device.type == "cuda" and self.dst.device.type == "cpu":
            dst, src = (x.pin_memory().to(device, non_blocking=True) for x in (self.dst, self.src))
            return replace(self, dst=dst, src=src)
        return replace(self, dst=self.dst.to(device), src=self.src.to(device))


def window_seed(schedule_seed: int, feature: str, block: int, window: int) -> int:
    """Seed of the partition of one feature at one block in one cache window, equal in every process.

    Args:
        schedule_seed: `Schedule.seed`.
        feature: "H", "Q" or "V".
        block: row of the rate tables.
        window: denoising step // cache_step.
    """
    return zlib.crc32(f"{schedule_seed}/{feature}/{block}/{window}".encode())


def chunk_counts(grid: Grid, stride: Grid, coverage: Coverage = "full") -> Grid:
    """Number of chunks per axis; strides beyond the grid are clamped to it.

    Args:
        grid: (frames, height, width) in tokens.
        stride: (t, h, w) chunk size.
        coverage: "full" adds a ragged last chunk where the stride does not divide the grid, "paper" leaves the
            remainder without a destination.

    Raises:
        ScheduleError: an axis is not positive or the coverage is unknown.
    """
    if min(*grid, *stride) < 1:
        raise ScheduleError(f"Token grid {grid} and stride {stride} must consist of positive integers.")
    if coverage not in get_args(Coverage):
        raise ScheduleError(f"Coverage is '{coverage}'; choose one of {', '.join(get_args(Coverage))}.")
    sizes = [(g, min(s, g)) for g, s in zip(grid, stride, strict=True)]
    t, h, w = (-(-g // s) if coverage == "full" else g // s for g, s in sizes)
    return t, h, w


def make_partition(
    grid: Grid, stride: Grid, generator: torch.Generator | None = None, coverage: Coverage = "full"
) -> Partition:
    """Draw one destination per chunk, uniformly (paper section 3.2, 3-D strides).

    With coverage "paper", the chunks start at a random offset on every axis that leaves a remainder.

    Args:
        grid: (frames, height, width) in tokens.
        stride: (t, h, w) chunk size.
        generator: a CPU generator, so that the draw does not depend on the device.
        coverage: see `chunk_counts`.

    Returns:
        The partition, on the CPU.

    Raises:
        ScheduleError: see `chunk_counts`.
    """
    chunks = chunk_counts(grid, stride, coverage)
    stride = tuple(min(s, g) for s, g in zip(stride, grid, strict=True))  # type: ignore[assignment]
    draws = torch.rand(math.prod(chunks), 3, generator=generator, dtype=torch.float64)
    cells = torch.cartesian_prod(*[torch.arange(c) for c in chunks]).view(-1, 3)
    position, starts = [], []
    for axis in range(3):
        remainder = grid[axis] - chunks[axis] * stride[axis]  # negative where the last chunk is ragged
        offset = int(torch.randint(0, remainder + 1, (1,), generator=generator)) if remainder > 0 else 0
        starts.append(offset)
        start = offset + cells[:, axis] * stride[axis]
        size = (grid[axis] - start).clamp(max=stride[axis])
        position.append(start + (draws[:, axis] * size).long())
    dst = (position[0] * grid[1] + position[1]) * grid[2] + position[2]
    is_source = torch.ones(math.prod(grid), dtype=torch.bool)
    is_source[dst] = False
    return Partition(grid, stride, chunks, (starts[0], starts[1], starts[2]), dst, is_source.nonzero().flatten())
