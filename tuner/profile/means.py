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

    def follow(self, earlier: SiteMeans, until: int) -> None:
        """Take the steps before `until` from another one, whatever this one has of them."""
        for table, other in ((self._sums, earlier._sums), (self._weights, earlier._weights)):
            for site in [site for site in table if site[1] < until]:
                del table[site]
            table.update({site: value for site, value in other.items() if site[1] < until})

    def to_arrays(self) -> dict[str, np.ndarray]:
        """sites (n, 2), sums (n, ...) and weights (n,)."""
        sites = list(self._sums)
        return {
            "sites": np.array(sites, dtype=np.int64).reshape(-1, 2),
            "sums": np.array([self._sums[site] for site in sites], dtype=np.float64),
            "weights": np.array([self._weights[site] for site in sites], dtype=np.float64),
        }

    @classmethod
    def from_arrays(cls, sites: np.ndarray, sums: np.ndarray, weights: np.ndarray) -> SiteMeans:
        """Of what `to_arrays` gave."""
        found = cls()
        for (block, step), total, weight in zip(sites.tolist(), sums, weights.tolist(), strict=True):
            found._sums[block, step], found._weights[block, step] = total, weight
        return found
