"""The paper's manual tuning (Appendix B), with its "looks good" decided by the quality gate instead of by eye."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from asymrnr.schedule import Schedule
from tuner.profile.profile import Profile
from tuner.search.threshold import constant_in_windows
from tuner.strides import parse_stride

FEATURES = ("Q", "V")
START_THRESHOLD, START_RATE = 0.5, 0.3
RATE_STEP, THRESHOLD_STEP = 0.2, 0.1
MAX_GENERATIONS = 10


@dataclass(frozen=True)
class Attempt:
    """One generation of the heuristic: the rule tried, its mean attention cost, and whether the result looked good."""

    threshold: float
    rate: float
    attention: float
    good: bool


@dataclass(frozen=True)
class HandRule:
    """The form of Appendix B's schedules: one threshold on the similarity and one rate, for Q and V alike.

    Attributes:
        similarity: standardised similarity of "Q" and "V", (blocks, steps), constant within cache windows.
        max_rate: highest rate the stride allows; higher ones are cut to it.
        settings: the schedule's other attributes (stride, cache_step, ...).
    """

    similarity: Mapping[str, np.ndarray]
    max_rate: float
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, profile: Profile, stride: str, cache_step: int, max_rate: float) -> HandRule:
        """The form for a profiled model and one stride and cache step."""
        similarity = {f: constant_in_windows(profile.similarity[f], cache_step) for f in FEATURES}
        timesteps = tuple(profile.timesteps.tolist())
        return cls(
            similarity, max_rate, {"stride": parse_stride(stride), "cache_step": cache_step, "timesteps": timesteps}
        )

    def schedule(self, threshold: float, rate: float) -> Schedule:
        """The schedule that reduces where the similarity is above the threshold."""
        rule = {feature: {threshold: min(rate, self.max_rate)} for feature in FEATURES}
        return Schedule.from_thresholds(rule, {f: self.similarity[f] for f in FEATURES}, **self.settings)


def tune_by_hand(rule: HandRule, looks_good: Callable[[Schedule], bool]) -> tuple[Attempt | None, list[Attempt]]:
    """Follow Appendix B: raise the rate by 0.2 while it looks good; otherwise revert it and lift the threshold by 0.1.

    Args:
        rule: makes the schedules.
        looks_good: runs one generation with a schedule and judges it.

    Returns:
        The good rule that leaves the least attention, None if there was none, and every attempt in order (at most
        ten, as in the paper).
    """
    threshold, rate = START_THRESHOLD, START_RATE
    attempts: list[Attempt] = []
    while len(attempts) < MAX_GENERATIONS and threshold <= 1.0:
        schedule = rule.schedule(threshold, rate)
        good = looks_good(schedule)
        attempts.append(Attempt(round(threshold, 2), round(rate, 3), schedule.attention_cost(), good))
        if not good:
            rate = max(START_RATE, rate - RATE_STEP)
            threshold += THRESHOLD_STEP
        elif rate >= rule.max_rate:
            break
        else:
            rate = min(rate + RATE_STEP, rule.max_rate)
    return best_attempt(attempts), attempts


def best_attempt(attempts: Sequence[Attempt]) -> Attempt | None:
    """The good attempt that leaves the least attention; None if there was none."""
    return min((a for a in attempts if a.good), key=lambda a: a.attention, default=None)
