"""Predicts the denoising time of a schedule from what its sites take."""

from __future__ import annotations

import math
from dataclasses import asdict, astuple, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import norm

from asymrnr.actions import Action
from asymrnr.schedule import Schedule
from tuner.errors import UsageError
from tuner.latency.alongside import Alongside
from tuner.latency.costs import PARTS, action_parts, schedule_parts
from tuner.latency.sites import SiteLatency
from tuner.strides import stride_name

# How far what micro-benchmarks say is off once a whole model runs: standard deviations of the coefficients. Attention
# and projections are long, regular computations; gathering and matching are short and depend on what else is in the
# caches.
ATTENTION_SD, GATHERING_SD, MATCHING_SD, PROJECTION_SD = 0.15, 0.4, 0.4, 0.15
TOLERANCE = 1e-9
Covariance = tuple[tuple[float, ...], ...]


def _diagonal(*deviations: float) -> Covariance:
    return tuple(map(tuple, np.diag(np.square(deviations)).tolist()))


PRIOR_COVARIANCE = _diagonal(ATTENTION_SD, GATHERING_SD, MATCHING_SD, PROJECTION_SD)


@dataclass(frozen=True)
class Coefficients:
    """What attention, gathering, matching and projections really take, as multiples of what was measured; from 0."""

    attention: float = 1.0
    gathering: float = 1.0
    matching: float = 1.0
    projection: float = 1.0


@dataclass(frozen=True)
class LatencyModel:
    """Denoising seconds of one generation: the plain steps, with their attention exchanged for that of the schedule.

    All attention modules together take at most the whole step, so that the predicted time of every schedule is
    positive: what broadcasts has refreshed before, and reduced attention takes some time.

    Attributes:
        sites: what attention, gathering, matching and projections take at every block, each measured by itself.
        steps: number of denoising steps.
        step_seconds: wall time of one unaccelerated denoising step.
        coefficients: corrections of `sites` (see `tuner.latency.fit`).
        covariance: (4, 4) of the coefficients in the order of their names above.
        reused_share: what a step takes in which all blocks are left out, as a share of `step_seconds`; None where it
            was not measured.
        alongside: a cache that every schedule comes with; None for none, or one of the schedule's own.
    """

    sites: SiteLatency
    steps: int
    step_seconds: float
    coefficients: Coefficients = Coefficients()
    covariance: Covariance = PRIOR_COVARIANCE
    reused_share: float | None = None
    alongside: Alongside | None = None

    def __post_init__(self) -> None:
        """
        Raises:
            ValueError: a number makes no sense, or attention modules take longer than the step they are a part of.
        """
        values, covariance = np.array(astuple(self.coefficients)), np.array(self.covariance)
        if not (self.steps >= 1 and 0 < self.step_seconds < math.inf):
            raise ValueError("a generation has at least one step, which takes some time")
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ValueError("the latency coefficients must be numbers from 0")
        if covariance.shape != (PARTS, PARTS) or not np.isfinite(covariance).all():
            raise ValueError(f"the covariance of the latency coefficients must be {PARTS} x {PARTS} numbers")
        if not np.allclose(covariance, covariance.T) or (np.linalg.eigvalsh(covariance) <= 0).any():
            raise ValueError("the covariance of the latency coefficients must be symmetric and positive definite")
        if float(self.full_shares @ values) > 1 + TOLERANCE:
            raise ValueError("attention modules cannot take longer than the whole step")
        if self.reused_share is not None and not 0 < self.reused_share < 1:
            raise ValueError("a step without its blocks takes a share of a step between 0 and 1")

    @property
    def blocks(self) -> int:
        return self.sites.blocks

    @property
    def baseline_seconds(self) -> float:
        """Denoising seconds without reduction."""
        return self.steps * self.step_seconds

    @cached_property
    def full_shares(self) -> np.ndarray:
        """(4,) part of an unaccelerated step that every coefficient would account for if it was 1."""
        return np.array([self.sites.full_seconds, 0.0, 0.0, self.sites.projection_seconds.sum()]) / self.step_seconds

    @property
    def attention_share(self) -> float:
        """Part of an unaccelerated step spent in the attention calls that can be reduced."""
        return self.coefficients.attention * self.sites.full_seconds / self.step_seconds

    @property
    def rest_seconds(self) -> float:
        """Everything but these attention calls, over all steps; only broadcasting changes it."""
        return self.baseline_seconds * max(0.0, 1 - self.attention_share)

    @property
    def outside_seconds(self) -> float:
        """Everything but the attention modules, over all steps; no schedule changes it."""
        return self.baseline_seconds * max(0.0, 1 - float(self.full_shares @ astuple(self.coefficients)))

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

    def action_seconds(
        self, action: Action, rate_q: np.ndarray | float, rate_v: np.ndarray | float, stride: str
    ) -> np.ndarray:
        """The whole attention module in one step, by what it does; without the matchings of cache windows.

        All these of a schedule, `matching_seconds` for what it copies, and `outside_seconds` are what it takes.

        Args:
            action: what the block does: copying, or in full at rates of 0 (REDUCE), refreshing, restoring with memory,
                or broadcasting, which takes nothing.
            rate_q, rate_v: reduction rates, which broadcast to (blocks, ...). Those of a refresh are those of the
                memory sites up to the next one, and 0 where there are none: it then takes what computing in full takes.
            stride: of the schedule.

        Returns:
            (blocks, ...) seconds.

        Raises:
            UsageError: a refresh matches, and the stride was not measured.
        """
        parts = action_parts(self.sites, action, rate_q, rate_v, stride)
        spared = np.tensordot(astuple(self.coefficients), parts, axes=1)
        projection = self.coefficients.projection * self.sites.projection_seconds
        return projection.reshape(-1, *[1] * (spared.ndim - 1)) + spared

    def seconds(self, sites_seconds: float) -> float:
        """Denoising seconds when all sites together take so long."""
        return self.rest_seconds + sites_seconds

    def sites_budget(self, target_speedup: float) -> float:
        """How long all sites together may take, the inverse of `seconds`; negative where nothing is fast enough.

        Holds for schedules that do not broadcast; any other budget is that of `action_seconds` and `outside_seconds`.
        """
        return self.baseline_seconds / target_speedup - self.rest_seconds

    def predict(self, schedule: Schedule) -> float:
        """Denoising seconds of one generation with the schedule.

        Raises:
            UsageError: the schedule does not fit this model, has a `match_radius` or reduces hidden states (H), which
                are not modelled, or its stride, or steps with its cache, were not measured.
        """
        changed = float(self.sensitivity(schedule) @ astuple(self.coefficients))
        return self.baseline_seconds * (1 - self.left_out(schedule) + changed)

    def left_out(self, schedule: Schedule) -> float:
        """What a cache saves by leaving out blocks, as a share of the whole time.

        Raises:
            UsageError: see `predict`.
        """
        if schedule.partner is None:
            return 0.0
        if self.alongside is not None and self.alongside.partner == schedule.partner:
            return 1 - self.alongside.share
        reused = schedule.reused_steps()
        if self.reused_share is None or not reused.any():
            raise UsageError(f"What steps take with {schedule.partner} was not measured; tune again with it.")
        return float(reused.mean()) * (1 - self.reused_share)

    def computed(self, schedule: Schedule) -> np.ndarray:
        """(steps,) bool, no cache leaves anything out at the step."""
        if self.alongside is not None and self.alongside.partner == schedule.partner:
            return self.alongside.computed
        return ~schedule.reused_steps()

    def speedup(self, schedule: Schedule) -> float:
        """Predicted denoising speed-up; raises as `predict` does."""
        return self.baseline_seconds / self.predict(schedule)

    def sensitivity(self, schedule: Schedule, steps: np.ndarray | None = None) -> np.ndarray:
        """What every coefficient adds to 1 / speed-up, which is 1 - left_out + sensitivity @ coefficients.

        Args:
            schedule: what runs.
            steps: (steps,) bool, those whose speed-up it is; None for all, which is the only choice with a cache.

        Returns:
            (4,) in the order of the coefficients. That of attention is not positive without actions (a refresh may take
            a second attention), that of the projections never is.

        Raises:
            UsageError: see `predict`.
        """
        if schedule.match_radius is not None:
            raise UsageError("The latency of a matching restricted by match_radius is not modelled; leave it out.")
        if "H" in schedule.rates and schedule.rates["H"].any():
            raise UsageError("The latency of symmetric (H) reduction is not modelled; give rates for Q and V.")
        if (schedule.blocks, schedule.steps) != (self.blocks, self.steps):
            raise UsageError(f"The schedule is not for {self.blocks} blocks and {self.steps} steps.")
        parts = schedule_parts(self.sites, schedule)  # (4, steps)
        parts[0] -= self.sites.full_seconds
        parts *= self.computed(schedule)
        matchings = schedule.copied_matchings()
        if matchings.any():
            parts[2] += self.sites.matching_seconds(stride_name(schedule.stride)) @ matchings
        chosen = parts if steps is None else parts[:, steps]
        mean: np.ndarray = chosen.mean(axis=1) / self.step_seconds
        return mean

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
            coefficients = Coefficients(**values["coefficients"])
            covariance = values["covariance"]
            if "projection" not in values["coefficients"]:  # kept before projections were modelled
                covariance = [[*row, 0.0] for row in covariance] + [[0.0, 0.0, 0.0, PROJECTION_SD**2]]
            model = cls(
                SiteLatency.from_dict(values["sites"], blocks),
                values["steps"],
                values["step_seconds"],
                coefficients,
                tuple(tuple(row) for row in covariance),
                values.get("reused_share"),
                Alongside.from_dict(values.get("alongside")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"The latency is damaged ({error}); measure it again.") from error
        if model.steps != steps:
            raise UsageError(f"The latency is not that of a generation with {steps} steps; measure it again.")
        return model
