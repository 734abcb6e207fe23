"""What refreshes keep for later steps, in bytes: a limit on it decides which blocks may use windows."""

from __future__ import annotations

import math

import numpy as np

from asymrnr.actions import Action
from asymrnr.storage import Storage, row_bytes
from tuner.latency.sites import SiteLatency
from tuner.search.windows import Program

INDEX_BYTES = 8  # a token and head, see docs/memory.md


def window_bytes(sites: SiteLatency, program: Program, itemsize: int, storage: Storage = "model") -> np.ndarray:
    """What every block keeps for a window, over all of its calls in a step.

    Args:
        sites: shapes of the attention calls.
        program: what the block does in the window.
        itemsize: bytes of a number in the model's dtype.
        storage: how it is kept.

    Returns:
        (blocks,)
    """
    found = []
    for index in sites.surface_of:
        surface = sites.surfaces[index]
        video = math.prod(surface.grid)
        tokens, per_head = video + surface.text_tokens, surface.head_dim
        if program.action == Action.BROADCAST:  # a token's heads are a row
            each = float(tokens * row_bytes(surface.heads * per_head, itemsize, storage))
        else:
            rows = program.rate * video * row_bytes(per_head, itemsize, storage)
            each = surface.heads * (rows + tokens * INDEX_BYTES)
        found.append(sites.calls * surface.batch * each)
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
