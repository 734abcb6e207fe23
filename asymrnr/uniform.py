"""One rate for all blocks and steps, whatever the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asymrnr.schedule import Schedule


@dataclass(frozen=True)
class UniformSchedule:
    """The simplest reduction: every block and step alike, for a first look at a model.

    Attributes:
        q, v: share of the queries, and of the keys and values, to drop, in [0, 1).
        stride: (t, h, w) chunk of the token grid that holds one destination token.
        cache_step: denoising steps that matches are used for.
    """

    q: float = 0.0
    v: float = 0.0
    stride: tuple[int, int, int] = (2, 2, 2)
    cache_step: int = 5

    def __post_init__(self) -> None:
        """
        Raises:
            ScheduleError: a value is out of range.
        """
        self.for_blocks(1)

    def for_blocks(self, blocks: int) -> Schedule:
        """The schedule of a model with so many blocks; its one column holds for every step."""
        rates = {"Q": np.full((blocks, 1), self.q), "V": np.full((blocks, 1), self.v)}
        return Schedule(rates=rates, stride=self.stride, cache_step=self.cache_step)
