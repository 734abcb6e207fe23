"""The paper's manual tuning (Appendix B), with its "looks good" decided by the quality gate instead of by eye."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from asymrnr.schedule import Schedule

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


def threshold_schedule(
    similarity: Mapping[str, np.ndarray], threshold: float, rate: float, max_rate: float, **settings: Any
) -> Schedule:
    """One threshold and one rate for Q and V, as Appendix B starts out with; rates end at what the stride allows."""
    rule = {feature: {threshold: min(rate, max_rate)} for feature in ("Q", "V")}
    return Schedule.from_thresholds(rule, {f: similarity[f] for f in rule}, **settings)


def tune_by_hand(
    similarity: Mapping[str, np.ndarray],
    looks_good: Callable[[Schedule], bool],
    max_rate: float,
    **settings: Any,
) -> tuple[Attempt | None, list[Attempt]]:
    """Follow Appendix B: raise the rate by 0.2 while it looks good; otherwise revert it and lift the threshold by 0.1.

    Args:
        similarity: standardised similarity of "Q" and "V", (blocks, steps), constant within cache windows.
        looks_good: runs one generation with a schedule and judges it.
        max_rate: highest rate the stride allows.
        settings: the schedule's other attributes (stride, cache_step, ...).

    Returns:
        The good rule that leaves the least attention, None if there was none, and every attempt in order (at most
        ten, as in the paper).
    """
    threshold, rate = START_THRESHOLD, START_RATE
    attempts: list[Attempt] = []
    while len(attempts) < MAX_GENERATIONS and threshold <= 1.0:
        schedule = threshold_schedule(similarity, threshold, rate, max_rate, **settings)
        good = looks_good(schedule)
        attempts.append(Attempt(round(threshold, 2), round(rate, 3), schedule.attention_cost(), good))
        if not good:
            rate = max(START_RATE, rate - RATE_STEP)
            threshold += THRESHOLD_STEP
        elif rate >= max_rate:
            break
        else:
            rate = min(rate + RATE_STEP, max_rate)
    best = min((a for a in attempts if a.good), key=lambda a: a.attention, default=None)
    return best, attempts
