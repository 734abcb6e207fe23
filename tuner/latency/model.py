"""Predicts the denoising time of a schedule from what its sites take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from asymrnr.schedule import Schedule
from tuner.errors import UsageError
from tuner.latency.sites import SiteLatency
from tuner.strides import stride_name

SCALE_RANGE = (0.2, 2.0)


def window_starts(steps: int, cache_step: int) -> np.ndarray:
    """First steps of the cache windows."""
    return np.arange(0, steps, cache_step)


@dataclass(frozen=True)
class LatencyModel:
    """Denoising seconds of one generation as a sum over sites.

    Attributes:
        sites: what attention, matching and gathering take at every block.
        steps: number of denoising steps.
        rest_seconds: everything but self-attention, over all steps.
        scale: share of the predicted saving that really came about; 1 until measured (see `refit`).
    """

    sites: SiteLatency
    steps: int
    rest_seconds: float
    scale: float = 1.0

    @property
    def blocks(self) -> int:
        return self.sites.blocks

    @property
    def baseline_seconds(self) -> float:
        """Denoising seconds without reduction."""
        return self.rest_seconds + self.steps * self.sites.full_seconds

    def sites_seconds(self, rates: Mapping[str, np.ndarray], stride: str, cache_step: int) -> float:
        """All sites of a generation: attention, gathering, and matching once per window that reduces the feature.

        Args:
            rates: "Q" and "V" to (blocks, steps); absent means not reduced.
            stride, cache_step: of the schedule.

        Raises:
            UsageError: the tables do not fit this model, or reduce hidden states, which is not modelled, or the stride
                was not measured.
        """
        zero = np.zeros((self.blocks, self.steps))
        if np.any(rates.get("H", zero) > 0):
            raise UsageError("The latency of symmetric (H) reduction is not modelled; give rates for Q and V.")
        tables = {feature: rates.get(feature, zero) for feature in ("Q", "V")}
        if any(table.shape != zero.shape for table in tables.values()):
            raise UsageError(f"The schedule is not for {self.blocks} blocks and {self.steps} steps.")
        total = float(self.sites.seconds(tables["Q"], tables["V"]).sum())
        if any(table.any() for table in tables.values()):
            starts = window_starts(self.steps, cache_step)
            windows = sum(np.logical_or.reduceat(table > 0, starts, axis=1).sum(axis=1) for table in tables.values())
            total += float((windows * self.sites.matching_seconds(stride)).sum())
        return total

    def seconds(self, sites_seconds: float) -> float:
        """Denoising seconds when all sites together take so long by `sites`."""
        full = self.steps * self.sites.full_seconds
        return self.baseline_seconds - self.scale * (full - sites_seconds)

    def sites_budget(self, target_speedup: float) -> float:
        """How long all sites together may take by `sites`; the inverse of `seconds`."""
        full = self.steps * self.sites.full_seconds
        return full - self.baseline_seconds * (1 - 1 / target_speedup) / self.scale

    def predict(self, schedule: Schedule) -> float:
        """Denoising seconds of one generation with the schedule.

        Raises:
            UsageError: the matching is restricted by `match_radius`, which is not modelled, or see `sites_seconds`.
        """
        if schedule.match_radius is not None:
            raise UsageError("The latency of a matching restricted by match_radius is not modelled; leave it out.")
        return self.seconds(self.sites_seconds(schedule.rates, stride_name(schedule.stride), schedule.cache_step))

    def speedup(self, schedule: Schedule) -> float:
        """Predicted denoising speed-up."""
        return self.baseline_seconds / self.predict(schedule)

    def refit(self, measured_seconds: float, schedule: Schedule) -> LatencyModel:
        """The model whose saving for this schedule is the measured one.

        Args:
            measured_seconds: denoising seconds of a generation with the schedule, on the scale of `baseline_seconds`.
            schedule: what it ran with.
        """
        expected = self.baseline_seconds - replace(self, scale=1.0).predict(schedule)
        if expected <= 0:
            return self
        scale = (self.baseline_seconds - measured_seconds) / expected
        return replace(self, scale=float(np.clip(scale, *SCALE_RANGE)))
