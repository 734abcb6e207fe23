"""Attention masks, as far as they decide what attention takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from tuner.ceilings import TIMING_BYTES

LARGE = TIMING_BYTES // 8


@dataclass(frozen=True)
class Masking:
    """An attention mask, as far as it decides what attention takes.

    Attributes:
        shape: (batch or 1, heads or 1, queries or 1, keys or 1).
        dtype: torch's name; a "bool" mask is false where keys are hidden, others are added to the scores.
        hidden: text keys that are hidden, of every item in the first axis.
        uniform: it never hides single video tokens, and is cut accordingly (see `reduce_mask`).
    """

    shape: tuple[int, int, int, int]
    dtype: str
    hidden: tuple[int, ...]
    uniform: bool

    def build(self, device: torch.device) -> torch.Tensor:
        """A mask like it, for a joint sequence with the video tokens first and the hidden text last.

        Where it would be large, all queries share one row.
        """
        dtype = getattr(torch, self.dtype)
        shown, covered = (True, False) if dtype == torch.bool else (0.0, torch.finfo(dtype).min)
        large = math.prod(self.shape) * dtype.itemsize > LARGE
        mask = torch.full(
            (*self.shape[:2], 1, self.shape[3]) if large else self.shape, shown, dtype=dtype, device=device
        )
        if self.shape[3] > 1:
            for item, hidden in enumerate(self.hidden):
                mask[item, :, :, self.shape[3] - hidden :] = covered
        return mask.expand(self.shape)
