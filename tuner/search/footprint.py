"""What refreshes keep for later steps, in bytes: a limit on it decides which blocks may use windows."""

from __future__ import annotations

import math

import numpy as np

from asymrnr.actions import Action
from tuner.latency.sites import SiteLatency
from tuner.search.windows import Program

INDEX_BYTES = 8  # a token and head, see docs/memory.md


def window_bytes(sites: SiteLatency, program: Program, itemsize: int) -> np.ndarray:
    """What every block keeps for a window, over all of its calls in a step.

    Args:
        sites: shapes of the attention calls.
        program: what the block does in the window.
        itemsize: bytes of a number in the model's dtype.

    Returns:
        (blocks,)
    """
    found = []
    for index in sites.surface_of:
        surface = sites.surfaces[index]
        video = math.prod(surface.grid)
        tokens, kept = video + surface.text_tokens, surface.head_dim * itemsize
        if program.action == Action.BROADCAST:
            each = float(tokens * kept)
        else:
            each = program.rate * video * kept + tokens * INDEX_BYTES
        found.append(sites.calls * surface.batch * surface.heads * each)
    return np.array(found)


def blocks_within(most: np.ndarray, preference: np.ndarray, limit: float | None) -> np.ndarray:
    """The blocks that may use windows so that all of them together stay within a limit.

    Args:
        most: (blocks,) bytes that a block may keep.
        preference: (blocks,) blocks with lower values come first.
        limit: bytes for all of them; None is no limit.

    Returns:
        (blocks,) bool.
    """
    allowed = np.ones(len(most), dtype=bool)
    if limit is not None:
        order = np.argsort(preference, kind="stable")
        allowed[order] = np.cumsum(most[order]) <= limit
    return allowed
