"""Averages by site, gathered call by call."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

Site = tuple[int, int]
"""(block, denoising step)"""


class SiteMeans:
    """Sums and weights by site, over batch items and guidance branches."""

    def __init__(self) -> None:
        self._sums: dict[Site, Any] = defaultdict(float)
        self._weights: dict[Site, float] = defaultdict(float)

    def add(self, site: Site, value: Any, weight: float = 1.0) -> None:
        """Add a number or an array, which is a sum over so much weight."""
        self._sums[site] = self._sums[site] + value
        self._weights[site] += weight

    def table(self, shape: Site) -> np.ndarray:
        """(blocks, steps, ...) of sum / weight, NaN where nothing was added."""
        inner = np.shape(next(iter(self._sums.values()))) if self._sums else ()
        result = np.full((*shape, *inner), np.nan)
        for site, total in self._sums.items():
            result[site] = total / max(self._weights[site], 1e-30)
        return result
