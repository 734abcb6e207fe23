"""Predicts the denoising time of a schedule from what its sites take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np
from scipy.stats import norm

from asymrnr.schedule import Schedule
from tuner.errors import UsageError
from tuner.latency.sites import SiteLatency
from tuner.strides import stride_name

# How far what micro-benchmarks say is off once a whole model runs: standard deviations of the coefficients. Attention
# is a long, regular computation; gathering and matching are short and depend on what else is in the caches.
ATTENTION_SD, GATHERING_SD, MATCHING_SD = 0.15, 0.4, 0.4
PRIOR_COVARIANCE = ((ATTENTION_SD**2, 0.0, 0.0), (0.0, GATHERING_SD**2, 0.0), (0.0, 0.0, MATCHING_SD**2))
TOLERANCE = 1e-9
Covariance = tuple[tuple[float, ...], ...]


def window_starts(steps: int, cache_step: int) -> np.ndarray:
    """First steps of the cache windows."""
    return np.arange(0, steps, cache_step)


@dataclass(frozen=True)
class Coefficients:
    """What attention, gathering and matching really take, as multiples of what the micro-benchmarks say; from 0."""

    attention: float = 1.0
    gathering: float = 1.0
    matching: float = 1.0


@dataclass(frozen=True)
class LatencyModel:
    """Denoising seconds of one generation: the plain steps, with their attention exchanged for that of the schedule.

    All attention together takes at most the whole step, so that the predicted time of every schedule is positive.

    Attributes:
        sites: what attention, gathering and matching take at every block by the micro-benchmarks.
        steps: number of denoising steps.
        step_seconds: wall time of one unaccelerated denoising step.
        coefficients: corrections of `sites` (see `tuner.latency.fit`).
        covariance: (3, 3) of the coefficients in the order of their names above.
    """

    sites: SiteLatency
    steps: int
    step_seconds: float
    coefficients: Coefficients = Coefficients()
    covariance: Covariance = PRIOR_COVARIANCE

    def __post_init__(self) -> None:
        """
        Raises:
            ValueError: a number makes no sense, or attention takes longer than the step it is a part of.
        """
        values, covariance = np.array(astuple(self.coefficients)), np.array(self.covariance)
        if not (self.steps >= 1 and 0 < self.step_seconds < math.inf):
            raise ValueError("a generation has at least one step, which takes some time")
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ValueError("the latency coefficients must be numbers from 0")
        if covariance.shape != (3, 3) or not np.isfinite(covariance).all():
            raise ValueError("the covariance of the latency coefficients must be 3 x 3 numbers")
        if not np.allclose(covariance, covariance.T) or (np.linalg.eigvalsh(covariance) <= 0).any():
            raise ValueError("the covariance of the latency coefficients must be symmetric and positive definite")
        if self.attention_share > 1 + TOLERANCE:
            raise ValueError("attention cannot take longer than the whole step")

    @property
    def blocks(self) -> int:
        return self.sites.blocks

    @property
    def baseline_seconds(self) -> float:
        """Denoising seconds without reduction."""
        return self.steps * self.step_seconds

    @property
    def attention_share(self) -> float:
        """Part of an unaccelerated step spent in the attention calls that can be reduced."""
        return self.coefficients.attention * self.sites.full_seconds / self.step_seconds

    @property
    def rest_seconds(self) -> float:
        """Everything but these attention calls, over all steps; no schedule changes it."""
        return self.baseline_seconds * max(0.0, 1 - self.attention_share)

    def site_seconds(self, rate_q: np.ndarray | float, rate_v: np.ndarray | float) -> np.ndarray:
        """Attention and gathering in one step, without matching.

        Args:
            rate_q, rate_v: reduction rates, which broadcast to (blocks, ...).

        Returns:
            (blocks, ...) seconds.
        """
        attention = self.coefficients.attention * self.sites.attention_seconds(rate_q, rate_v)
        return attention + self.coefficients.gathering * self.sites.gathering_seconds(rate_q, rate_v)

    def matching_seconds(self, stride: str) -> np.ndarray:
        """(blocks,) seconds of one feature's matching for one cache window.

        Raises:
            UsageError: the stride was not measured.
        """
        return self.coefficients.matching * self.sites.matching_seconds(stride)

    def sites_seconds(self, rates: Mapping[str, np.ndarray], stride: str, cache_step: int) -> float:
        """All sites of a generation: attention, gathering, and matching once per window that reduces the feature.

        Args:
            rates: "Q" and "V" to (blocks, steps); absent means not reduced.
            stride, cache_step: of the schedule.

        Raises:
            UsageError: the tables do not fit this model, or reduce hidden states, which is not modelled, or the stride
                was not measured.
        """
        return float(np.array(astuple(self.coefficients)) @ self._parts(rates, stride, cache_step))

    def seconds(self, sites_seconds: float) -> float:
        """Denoising seconds when all sites together take so long."""
        return self.rest_seconds + sites_seconds

    def sites_budget(self, target_speedup: float) -> float:
        """How long all sites together may take, the inverse of `seconds`; negative where nothing is fast enough."""
        return self.baseline_seconds / target_speedup - self.rest_seconds

    def predict(self, schedule: Schedule) -> float:
        """Denoising seconds of one generation with the schedule.

        Raises:
            UsageError: `match_radius` or `actions`, which are not modelled, or see `sites_seconds`.
        """
        return self.baseline_seconds * (1 + float(self.sensitivity(schedule) @ astuple(self.coefficients)))

    def speedup(self, schedule: Schedule) -> float:
        """Predicted denoising speed-up; raises as `predict` does."""
        return self.baseline_seconds / self.predict(schedule)

    def sensitivity(self, schedule: Schedule) -> np.ndarray:
        """What every coefficient adds to 1 / speed-up, which is 1 + sensitivity @ coefficients.

        Returns:
            (3,) in the order of the coefficients; that of attention is not positive.

        Raises:
            UsageError: see `predict`.
        """
        if schedule.match_radius is not None:
            raise UsageError("The latency of a matching restricted by match_radius is not modelled; leave it out.")
        if schedule.actions is not None:
            raise UsageError("The latency of schedules with actions (memory, broadcasting) is not modelled.")
        parts = self._parts(schedule.rates, stride_name(schedule.stride), schedule.cache_step)
        saved = np.array([self.steps * self.sites.full_seconds, 0.0, 0.0])
        return (parts - saved) / self.baseline_seconds

    def log_speedup_sd(self, schedule: Schedule) -> float:
        """Standard deviation of the logarithm of the speed-up, as far as the coefficients are uncertain (delta method).

        Raises:
            UsageError: see `predict`.
        """
        slope = self.sensitivity(schedule) * self.speedup(schedule)
        return math.sqrt(max(0.0, float(slope @ np.array(self.covariance) @ slope)))

    def speedup_interval(self, schedule: Schedule, confidence: float = 0.95) -> tuple[float, float]:
        """Lowest and highest speed-up that go with the uncertainty of the coefficients.

        Args:
            schedule: what to predict.
            confidence: probability of the interval, which is symmetric in the logarithm.

        Raises:
            UsageError: see `predict`.
        """
        speedup = self.speedup(schedule)
        factor = math.exp(float(norm.ppf((1 + confidence) / 2)) * self.log_speedup_sd(schedule))
        return speedup / factor, speedup * factor

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], blocks: int, steps: int) -> LatencyModel:
        """Read back what `to_dict` gave, also after JSON.

        Args:
            values: what was kept.
            blocks, steps: attention sites of the model, and denoising steps.

        Raises:
            UsageError: something is missing or does not fit.
        """
        try:
            model = cls(
                SiteLatency.from_dict(values["sites"], blocks),
                values["steps"],
                values["step_seconds"],
                Coefficients(**values["coefficients"]),
                tuple(tuple(row) for row in values["covariance"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"The latency is damaged ({error}); measure it again.") from error
        if model.steps != steps:
            raise UsageError(f"The latency is not that of a generation with {steps} steps; measure it again.")
        return model

    def _parts(self, rates: Mapping[str, np.ndarray], stride: str, cache_step: int) -> np.ndarray:
        """(3,) seconds of attention, gathering and matching over a generation by `sites`; see `sites_seconds`."""
        zero = np.zeros((self.blocks, self.steps))
        if np.any(rates.get("H", zero) > 0):
            raise UsageError("The latency of symmetric (H) reduction is not modelled; give rates for Q and V.")
        q, v = (rates.get(feature, zero) for feature in ("Q", "V"))
        if q.shape != zero.shape or v.shape != zero.shape:
            raise UsageError(f"The schedule is not for {self.blocks} blocks and {self.steps} steps.")
        matching = 0.0
        if q.any() or v.any():
            starts = window_starts(self.steps, cache_step)
            windows = sum(np.logical_or.reduceat(table > 0, starts, axis=1).sum(axis=1) for table in (q, v))
            matching = float((windows * self.sites.matching_seconds(stride)).sum())
        attention, gathering = self.sites.attention_seconds(q, v).sum(), self.sites.gathering_seconds(q, v).sum()
        return np.array([attention, gathering, matching])
