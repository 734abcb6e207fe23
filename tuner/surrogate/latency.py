"""Predicts the denoising time of a schedule from the latency surface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from asymrnr.schedule import Schedule
from tuner.errors import UsageError
from tuner.profile.latency import LatencySurface
from tuner.profile.strides import stride_name

SCALE_RANGE = (0.2, 2.0)


def window_starts(steps: int, cache_step: int) -> np.ndarray:
    """First steps of the cache windows."""
    return np.arange(0, steps, cache_step)


@dataclass(frozen=True)
class LatencyModel:
    """Denoising seconds of one generation as a sum over sites.

    Attributes:
        surface: what attention, matching and gathering take.
        blocks, steps: number of attention sites and of denoising steps.
        rest_seconds: everything but self-attention, over all steps.
        scale: share of the predicted saving that really came about; 1 until measured (see `refit`).
        calls: attention calls of a site per step, for example 2 where guidance runs its branches one after the other.
    """

    surface: LatencySurface
    blocks: int
    steps: int
    rest_seconds: float
    scale: float = 1.0
    calls: int = 1

    @property
    def full_site_seconds(self) -> float:
        """Attention of one site and step without reduction."""
        return self.calls * float(self.surface.attention_seconds(0.0, 0.0))

    @property
    def baseline_seconds(self) -> float:
        """Denoising seconds without reduction."""
        return self.rest_seconds + self.blocks * self.steps * self.full_site_seconds

    def site_seconds(self, rate_q: np.ndarray | float, rate_v: np.ndarray | float) -> np.ndarray:
        """Attention and gathering of one site and step, without matching; the rates broadcast."""
        gathering = self.surface.gather_seconds("Q", rate_q) + self.surface.gather_seconds("V", rate_v)
        return self.calls * (self.surface.attention_seconds(rate_q, rate_v) + gathering)

    def matching_seconds(self, stride: str) -> float:
        """One matching of one feature at one block and cache window.

        Raises:
            UsageError: the stride was not measured.
        """
        return self.calls * self.surface.matching_seconds(stride)

    def sites_seconds(self, rates: Mapping[str, np.ndarray], stride: str, cache_step: int) -> float:
        """All sites of a generation: attention, gathering, and matching once per window that reduces the feature.

        Args:
            rates: "Q" and "V" to (blocks, steps); absent means not reduced.
            stride, cache_step: of the schedule.

        Raises:
            UsageError: the tables do not fit this model, or reduce hidden states, which is not modelled.
        """
        zero = np.zeros((self.blocks, self.steps))
        if np.any(rates.get("H", zero) > 0):
            raise UsageError("The latency of symmetric (H) reduction is not modelled; give rates for Q and V.")
        tables = {feature: rates.get(feature, zero) for feature in ("Q", "V")}
        if any(table.shape != zero.shape for table in tables.values()):
            raise UsageError(f"The schedule is not for {self.blocks} blocks and {self.steps} steps.")
        total = float(self.site_seconds(tables["Q"], tables["V"]).sum())
        if any(table.any() for table in tables.values()):
            starts = window_starts(self.steps, cache_step)
            windows = sum(int(np.logical_or.reduceat(table > 0, starts, axis=1).sum()) for table in tables.values())
            total += windows * self.matching_seconds(stride)
        return total

    def seconds(self, sites_seconds: float) -> float:
        """Denoising seconds when all sites together take so long by the surface."""
        full = self.blocks * self.steps * self.full_site_seconds
        return self.baseline_seconds - self.scale * (full - sites_seconds)

    def sites_budget(self, target_speedup: float) -> float:
        """How long all sites together may take by the surface; the inverse of `seconds`."""
        full = self.blocks * self.steps * self.full_site_seconds
        return full - self.baseline_seconds * (1 - 1 / target_speedup) / self.scale

    def predict(self, schedule: Schedule) -> float:
        """Denoising seconds of one generation with the schedule.

        Raises:
            UsageError: the matching is restricted by `match_radius`, which is not modelled, or see `sites_seconds`
                and `matching_seconds`.
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
