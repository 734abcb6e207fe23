"""Predicts how far a schedule takes the attention outputs from the unreduced ones."""

from __future__ import annotations

import numpy as np

from asymrnr.schedule import Schedule
from tuner.errors import UsageError
from tuner.profile.profile import Curves, Profile
from tuner.search.trust import Trust, shrink
from tuner.strides import stride_name


class ErrorModel:
    """Sum over sites of w_t * (e_q ** (p / 2) + e_v ** (p / 2)), e being the squared relative output errors.

    It ranks schedules; it is not a quality in itself. p = 2 adds up squared errors; more punishes the worst sites.

    Attributes:
        profile: the error curves.
        weights: (steps,) weight of the errors of every step, mean 1.
        exponent: p.
        trust: how far the curves are believed.
    """

    def __init__(
        self,
        profile: Profile,
        weights: np.ndarray | None = None,
        exponent: float = 2.0,
        trust: Trust = Trust(),  # noqa: B008  (immutable)
    ) -> None:
        """
        Args:
            profile: the error curves.
            weights: (steps,) relative weight of every step; equal by default.
            exponent: p.
            trust: how far the curves are believed; as measured by default.

        Raises:
            UsageError: the weights do not fit the profile's steps.
        """
        weights = np.ones(profile.steps) if weights is None else np.asarray(weights, dtype=float)
        if weights.shape != (profile.steps,) or not (weights >= 0).all() or weights.sum() == 0:
            raise UsageError(f"The error weights must be {profile.steps} numbers, none negative and not all zero.")
        self.profile = profile
        self.weights = weights / weights.mean()
        self.exponent = exponent
        self.trust = trust
        self._shrunk: dict[tuple[str, str, int], np.ndarray] = {}

    def losses(self, stride: str, cache_step: int, exponent: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Weighted losses of queries and of keys and values at every site and rate, each (blocks, steps, R).

        Raises:
            UsageError: the stride and cache step were not profiled.
        """
        power = (self.exponent if exponent is None else exponent) / 2
        weights = self.weights[:, None]
        loss_q, loss_v = (weights * self._curves(feature, stride, cache_step) ** power for feature in ("Q", "V"))
        return loss_q, loss_v

    def largest_rate(self, stride: str) -> float:
        """The highest profiled rate that the stride can reach at every site."""
        reachable = [
            np.isfinite(curve).all(axis=(0, 1))
            for curves in (self.profile.q_error, self.profile.v_error)
            for (name, _), curve in curves.items()
            if name == stride
        ]
        return float(self.profile.rates[np.logical_and.reduce(reachable)].max())

    def predict(self, schedule: Schedule) -> float:
        """The loss of a schedule; infinite where a rate is out of reach.

        Rates between profiled ones are interpolated linearly.

        Raises:
            UsageError: the schedule's stride, cache step or shape was not profiled, or it has actions.
        """
        if schedule.actions is not None:
            raise UsageError("The errors of schedules with actions (memory, broadcasting) are not modelled.")
        profile, stride = self.profile, stride_name(schedule.stride)
        if (schedule.blocks, schedule.steps) != (profile.blocks, profile.steps):
            raise UsageError(f"The schedule is not for {profile.blocks} blocks and {profile.steps} steps.")
        total = 0.0
        for feature in ("Q", "V"):
            if feature not in schedule.rates:
                continue
            curve = self._curves(feature, stride, schedule.cache_step)
            errors = _interpolate(curve, profile.rates, schedule.rates[feature])
            total += float((self.weights * errors ** (self.exponent / 2)).sum())
        return total

    def _curves(self, feature: str, stride: str, cache_step: int) -> np.ndarray:
        key = (feature, stride, cache_step)
        if key not in self._shrunk:
            curves: Curves = self.profile.q_error if feature == "Q" else self.profile.v_error
            if (stride, cache_step) not in curves:
                raise UsageError(f"Stride {stride} with cache step {cache_step} was not profiled.")
            self._shrunk[key] = shrink(curves[stride, cache_step], self.trust)
        return self._shrunk[key]


def _interpolate(curve: np.ndarray, rates: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Values (blocks, steps) of a curve (blocks, steps, R) at wanted rates (blocks, steps)."""
    high = np.clip(np.searchsorted(rates, wanted - 1e-9), 0, len(rates) - 1)
    low = np.maximum(high - 1, 0)
    span = np.where(high > low, rates[high] - rates[low], 1.0)
    share = np.clip((wanted - rates[low]) / span, 0.0, 1.0)
    at_low = np.take_along_axis(curve, low[..., None], axis=2)[..., 0]
    at_high = np.take_along_axis(curve, high[..., None], axis=2)[..., 0]
    with np.errstate(invalid="ignore"):
        between = at_low + share * (at_high - at_low)
    exact = np.where(share >= 1 - 1e-9, at_high, between)
    return np.where(wanted > rates[-1] + 1e-9, np.inf, np.where(wanted <= 0, curve[..., 0], exact))
