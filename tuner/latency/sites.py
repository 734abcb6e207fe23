"""What attention, matching, gathering and projections take at every block.

There is one latency surface for every shape of attention call.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tuner.errors import UsageError
from tuner.latency.surface import LatencySurface
from tuner.strides import stride_max_rate


@dataclass(frozen=True)
class SiteLatency:
    """Seconds of a model's attention sites.

    Attributes:
        surfaces: one for every shape of attention call; a U-Net has several.
        surface_of: (blocks,) which of them holds for each block.
        calls: attention calls of a block in one step: 2 where guidance runs its branches, or the model its batch items,
            one after the other.
        projections: (blocks,) seconds in one step of the rest of the attention module around its attention calls:
            projections, norms, positions. Empty where it was not measured; then it is taken to be nothing, so that
            broadcasting saves no more than attention.
    """

    surfaces: tuple[LatencySurface, ...]
    surface_of: tuple[int, ...]
    calls: int = 1
    projections: tuple[float, ...] = ()

    @property
    def blocks(self) -> int:
        return len(self.surface_of)

    @cached_property
    def full_seconds(self) -> float:
        """Attention of all blocks in one step without reduction."""
        return float(self.attention_seconds(0.0, 0.0).sum())

    @property
    def projection_seconds(self) -> np.ndarray:
        """(blocks,) `projections`, 0 where they were not measured."""
        return np.array(self.projections or [0.0] * self.blocks)

    def attention_seconds(self, rate_q: np.ndarray | float, rate_v: np.ndarray | float) -> np.ndarray:
        """Attention in one step.

        Args:
            rate_q, rate_v: reduction rates, which broadcast to (blocks, ...).

        Returns:
            (blocks, ...) seconds.
        """
        return self._by_block(lambda surface, q, v: surface.attention_seconds(q, v), rate_q, rate_v)

    def gathering_seconds(self, rate_q: np.ndarray | float, rate_v: np.ndarray | float) -> np.ndarray:
        """Planning, gathering and restoring in one step; arguments and result as of `attention_seconds`."""
        return self._by_block(
            lambda surface, q, v: surface.gather_seconds("Q", q) + surface.gather_seconds("V", v), rate_q, rate_v
        )

    def learning_seconds(self, rate_q: np.ndarray | float, rate_v: np.ndarray | float) -> np.ndarray:
        """What a refresh takes beyond gathering to learn what memory sites with these rates get wrong.

        Arguments and result as of `attention_seconds`.
        """
        return self._by_block(lambda surface, q, v: surface.memory.learning_seconds(q, v), rate_q, rate_v)

    def adding_seconds(self, rate_q: np.ndarray | float, rate_v: np.ndarray | float) -> np.ndarray:
        """What memory sites take beyond gathering to add it; arguments and result as of `attention_seconds`."""
        return self._by_block(lambda surface, q, v: surface.memory.adding_seconds(q, v), rate_q, rate_v)

    def matching_seconds(self, stride: str) -> np.ndarray:
        """(blocks,) seconds of one feature's matching for one cache window.

        Raises:
            UsageError: the stride was not measured.
        """
        return self.calls * np.array([self.surfaces[index].matching_seconds(stride) for index in self.surface_of])

    def largest_rates(self, stride: str) -> np.ndarray:
        """(blocks,) highest rates that keep all destinations."""
        return np.array([stride_max_rate(self.surfaces[index].grid, stride) for index in self.surface_of])

    def _by_block(
        self,
        seconds: Callable[[LatencySurface, np.ndarray, np.ndarray], np.ndarray],
        rate_q: np.ndarray | float,
        rate_v: np.ndarray | float,
    ) -> np.ndarray:
        shape = (self.blocks, *np.broadcast_shapes(np.shape(rate_q), np.shape(rate_v))[1:])
        q, v = np.broadcast_to(rate_q, shape), np.broadcast_to(rate_v, shape)
        result = np.empty(shape)
        for index, surface in enumerate(self.surfaces):
            rows = np.array(self.surface_of) == index
            result[rows] = seconds(surface, q[rows], v[rows])
        return self.calls * result

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], blocks: int) -> SiteLatency:
        """Read back what `to_dict` gave, also after JSON.

        Args:
            values: what was kept.
            blocks: attention sites of the model.

        Raises:
            UsageError: something is missing or does not fit.
        """
        try:
            surfaces = tuple(LatencySurface.from_dict(surface) for surface in values["surfaces"])
            projections = tuple(float(seconds) for seconds in values.get("projections", ()))
            sites = cls(surfaces, tuple(values["surface_of"]), values["calls"], projections)
            fits = sites.blocks == blocks and set(sites.surface_of) <= set(range(len(surfaces))) and sites.calls >= 1
            fits = fits and len(projections) in (0, blocks)
            if not all(0 <= seconds < math.inf for seconds in projections):
                raise ValueError("a time is no duration")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"The latency is damaged ({error}); measure it again.") from error
        if not fits:
            raise UsageError(f"The latency is not that of a model with {blocks} blocks; measure it again.")
        return sites
