"""Operations of one generation, with and without a schedule (design: 2 per multiply-add, per video)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from asymrnr.matching_local import compared_pairs
from asymrnr.partition import chunk_counts
from asymrnr.reduction import check_rate
from asymrnr.schedule import Schedule
from tuner.errors import UsageError
from tuner.paper.architectures import Architecture


@dataclass(frozen=True)
class FlopCount:
    """Floating-point operations of all transformer blocks over one generation.

    Attributes:
        baseline_flops: without any reduction.
        attention_flops: what of them is self-attention proper, all that a schedule can spare.
        flops: with the schedule, without the matching.
        matching_flops: what the matching adds.
    """

    baseline_flops: int
    attention_flops: int
    flops: int
    matching_flops: int


def count_flops(architecture: Architecture, schedule: Schedule | None = None) -> FlopCount:
    """Count from shapes: the linear layers of every block, both products of the attention, and the matching.

    Args:
        architecture: the model and its workload.
        schedule: rates of shape (blocks, steps) of that model; None counts the baseline.

    Raises:
        UsageError: the schedule has other blocks or steps, or actions.
        ScheduleError: a rate is out of reach with the destinations kept.
    """
    shape = len(architecture.blocks), architecture.steps
    none = np.zeros(shape)
    baseline = _block_flops(architecture, none, none, none)
    attention = _self_attention_flops(architecture)
    if schedule is None:
        return FlopCount(baseline, attention, baseline, 0)
    if (schedule.blocks, schedule.steps) != shape:
        raise UsageError(
            f"The schedule is for {schedule.blocks} blocks and {schedule.steps} steps, "
            f"but the model has {shape[0]} blocks and takes {shape[1]} steps."
        )
    if schedule.actions is not None:
        raise UsageError("Operations of schedules with actions (memory, broadcasting) are not counted.")
    rates = schedule.effective_rates()
    h, q, v = (rates.get(feature, none) for feature in ("H", "Q", "V"))
    reduced, matching = _block_flops(architecture, h, q, v), _matching_flops(architecture, schedule, (h, q, v))
    return FlopCount(baseline, attention, reduced, matching)


def _self_attention_flops(architecture: Architecture) -> int:
    a = architecture
    pairs = (math.prod(a.grid) + a.attended_text) ** 2
    return 2 * a.cfg_batches * 2 * pairs * a.width * len(a.blocks) * a.steps


def _block_flops(architecture: Architecture, h: np.ndarray, q: np.ndarray, v: np.ndarray) -> int:
    """Sum over blocks and steps; rates are (blocks, steps), and at no site H is reduced together with Q or V."""
    a = architecture
    tokens = math.prod(a.grid)

    def kept(rates: np.ndarray) -> np.ndarray:
        return (tokens * (1 - rates)).astype(np.int64)  # the runtime's int(n * (1 - rate))

    def per_block(name: str) -> np.ndarray:
        return np.array([[getattr(block, name)] for block in a.blocks], dtype=np.int64)

    linear = per_block("video_attention") * kept(h) + per_block("video_rest") * tokens
    linear += per_block("text") * a.text_tokens
    queries, keys = kept(np.maximum(h, q)) + a.attended_text, kept(np.maximum(h, v)) + a.attended_text
    attention = 2 * (queries * keys + tokens * a.crossed_text) * a.width  # similarities, then the weighted sum
    return 2 * a.cfg_batches * int((linear + attention).sum())


def _matching_flops(architecture: Architecture, schedule: Schedule, rates: tuple[np.ndarray, ...]) -> int:
    """Every block's features are matched once per cache window in which they are reduced (paper section 3.5)."""
    a = architecture
    tokens, n_dst = math.prod(a.grid), math.prod(chunk_counts(a.grid, schedule.stride, schedule.coverage))
    for table in schedule.rates.values():
        check_rate(float(table.max()), tokens, n_dst)
    if schedule.metric == "random":
        return 0
    windows = range(0, a.steps, schedule.cache_step)
    matchings = sum(
        int((table[:, start : start + schedule.cache_step] > 0).any(axis=1).sum())
        for table in rates
        for start in windows
    )
    pairs = compared_pairs(a.grid, schedule.stride, schedule.coverage, schedule.match_radius)
    return 2 * a.cfg_batches * matchings * pairs * a.width
