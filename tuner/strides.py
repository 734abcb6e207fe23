"""Strides as text: "2x2x2" in search spaces, profiles and trial parameters, (2, 2, 2) in schedules."""

from __future__ import annotations

import math

from asymrnr.partition import Grid, chunk_counts
from tuner.errors import UsageError


def parse_stride(text: str) -> Grid:
    """ "2x2x2" -> (2, 2, 2).

    Raises:
        UsageError: the text is not three positive integers joined by x.
    """
    parts = text.split("x")
    if len(parts) != 3 or not all(p.isdecimal() and int(p) > 0 for p in parts):
        raise UsageError(f"Stride '{text}' is not of the form TxHxW with positive integers, for example 2x2x2.")
    t, h, w = (int(p) for p in parts)
    return t, h, w


def stride_name(stride: Grid) -> str:
    """(2, 2, 2) -> "2x2x2"."""
    return "x".join(str(s) for s in stride)


def stride_max_rate(grid: Grid, stride: str) -> float:
    """Largest rate with every destination kept, with coverage "full"."""
    return 1 - math.prod(chunk_counts(grid, parse_stride(stride))) / math.prod(grid)
