"""What a few steps of a real generation say about the latency model: the schedule to run in them, and its evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import median_abs_deviation, norm
from scipy.stats import t as student

from asymrnr.actions import Action
from asymrnr.schedule import Schedule
from tuner.latency.fit import Evidence
from tuner.latency.sites import SiteLatency
from tuner.run.estimate import LEAST_STANDARD_ERROR
from tuner.strides import parse_stride

RATE_Q, RATE_V = 0.5, 0.3  # a memory site that reduces V computes a second attention, and is hardly ever worth it


def period(cache_step: int, with_memory: bool) -> int:
    """Steps from one matching of a calibration schedule to the next."""
    return max(2, cache_step) if with_memory else cache_step


def calibration_schedule(latency: SiteLatency, stride: str, steps: int, every: int, with_memory: bool) -> Schedule:
    """Every site alike, at middle rates or as much as the stride allows.

    Args:
        latency: of the model's sites.
        stride: of the partition.
        steps: how many.
        every: steps from one matching to the next, see `period`.
        with_memory: refresh where the others match, and restore with memory in between; reduces Q alone.
    """
    largest = float(latency.largest_rates(stride).min())
    shape = (latency.blocks, steps)
    rates = {"Q": np.full(shape, min(RATE_Q, largest))}
    if not with_memory:
        rates["V"] = np.full(shape, min(RATE_V, largest))
        return Schedule(rates=rates, stride=parse_stride(stride), cache_step=every)
    actions = np.full(shape, Action.MEMORY, dtype=np.int8)
    actions[:, ::every] = Action.REFRESH
    rates["Q"][actions == Action.REFRESH] = 0.0
    return Schedule(rates=rates, stride=parse_stride(stride), cache_step=every, actions=actions)


def evidence_by_matching(schedule: Schedule, plain: np.ndarray, tuned: np.ndarray) -> list[Evidence]:
    """Steps that match apart from the others, which tells matching from attention.

    Args:
        schedule: what ran; see `calibration_schedule`.
        plain, tuned: (steps,) seconds.
    """
    matches, gained = schedule.matchings_of_steps() > 0, np.log(plain / tuned)
    kinds = [steps for steps in (matches, ~matches) if steps.any()]
    errors = errors_of_medians([gained[steps] for steps in kinds])
    return [
        Evidence(schedule, float(np.median(gained[steps])), max(error, LEAST_STANDARD_ERROR), steps)
        for steps, error in zip(kinds, errors, strict=True)
    ]


def errors_of_medians(groups: Sequence[np.ndarray]) -> list[float]:
    """Standard errors of the medians of groups of normal values with one common scatter.

    The scatter is a standard deviation of all residuals, with what lies further out than three (by their median)
    brought in, and is made larger for being estimated from few, so that 1.96 errors cover 95 %. Infinite where every
    group has one value.
    """
    residuals = np.concatenate([group - np.median(group) for group in groups])
    freedom = len(residuals) - len(groups)
    if freedom == 0:
        return [math.inf] * len(groups)
    usual = float(median_abs_deviation(residuals, center=lambda *_, **__: 0.0, scale="normal"))
    near = np.clip(residuals, -3 * usual, 3 * usual)
    scatter = math.sqrt(float(near @ near) / freedom) * float(student.ppf(0.975, freedom) / norm.ppf(0.975))
    return [scatter * math.sqrt(math.pi / 2 / len(group)) for group in groups]
