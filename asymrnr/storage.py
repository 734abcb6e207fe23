"""How refreshes keep what later steps need: as it is, or in 8 bits with a scale for every row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

Storage = Literal["model", "int8"]

LARGEST = 127
SCALE_BYTES = 4


@dataclass(frozen=True)
class Kept:
    """A tensor that is kept.

    Attributes:
        values: the tensor itself, or int8 of the same shape.
        scale: float32 of the same shape but for a last axis of 1; None where the values are the tensor itself.
        dtype: of the tensor.
    """

    values: torch.Tensor
    scale: torch.Tensor | None
    dtype: torch.dtype

    @classmethod
    def of(cls, tensor: torch.Tensor, storage: Storage) -> Kept:
        """
        Args:
            tensor: (..., channels), floating point.
            storage: "model": in its own dtype; "int8": rounded to 127 steps of a row's largest magnitude.
        """
        if storage == "model":
            return cls(tensor, None, tensor.dtype)
        scale = tensor.abs().amax(dim=-1, keepdim=True).float() / LARGEST
        values = (tensor / scale.clamp_min(torch.finfo(torch.float32).tiny)).round().to(torch.int8)
        return cls(values, scale, tensor.dtype)

    def tensor(self) -> torch.Tensor:
        """As it was, in its dtype; in 8 bits off by at most 1/254 of the row's largest magnitude."""
        return self.values if self.scale is None else (self.values * self.scale).to(self.dtype)

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All that takes memory."""
        return (self.values,) if self.scale is None else (self.values, self.scale)


def row_bytes(channels: int, itemsize: int, storage: Storage) -> int:
    """Bytes of one row.

    Args:
        channels: its length.
        itemsize: bytes of a number in the model's dtype.
        storage: how it is kept.
    """
    return channels * itemsize if storage == "model" else channels + SCALE_BYTES
