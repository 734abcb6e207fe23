"""Threshold rules (the paper's form of schedule): shapes, and scaling one to a latency target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from asymrnr.schedule import Schedule
from tuner.latency.model import LatencyModel
from tuner.search.scale import smallest_scale

Rules = Mapping[str, Mapping[float, float]]


def constant_in_windows(table: np.ndarray, cache_step: int) -> np.ndarray:
    """Each cache window takes the value of its first step, where the matching is made.

    Args:
        table: (blocks, steps).
        cache_step: length of the windows.
    """
    return table[:, np.arange(table.shape[1]) // cache_step * cache_step]


def rule_parameters(rule: Mapping[float, float], tiers: int) -> dict[str, Any]:
    """A rule of one or two levels as trial parameters, the inverse of `rule_from`.

    Args:
        rule: {threshold: rate}, the rates ascending with the thresholds; empty means never.
        tiers: thresholds are multiples of 1 / tiers.
    """
    if not rule:
        return {"tier": tiers, "rise": 0, "rate": 0.0, "share": 1.0}
    low, high = min(rule), max(rule)
    tier = round(low * tiers)
    return {"tier": tier, "rise": round(high * tiers) - tier, "rate": rule[high], "share": rule[low] / rule[high]}


def rule_from(tier: int, rise: int, rate: float, share: float, tiers: int) -> dict[float, float]:
    """{tier: rate * share, tier + rise: rate} as thresholds; levels above 1 or without a rate are left out.

    Args:
        tier: of the lower level.
        rise: tiers between the levels; 0 leaves only the upper one.
        rate: of the upper level.
        share: rate of the lower level relative to that of the upper one.
        tiers: thresholds are multiples of 1 / tiers.
    """
    levels = {tier: rate * share, tier + rise: rate}
    return {level / tiers: value for level, value in levels.items() if level <= tiers and value > 0}


def scaled(rules: Rules, scale: float, largest: float) -> dict[str, dict[float, float]]:
    """All rates times `scale`, none above `largest`."""
    return {
        feature: {threshold: min(rate * scale, largest) for threshold, rate in rule.items()}
        for feature, rule in rules.items()
    }


def scale_to_target(
    rules: Rules,
    similarity: Mapping[str, np.ndarray],
    model: LatencyModel,
    target_speedup: float,
    largest: float,
    **settings: Any,
) -> Schedule:
    """The rule's shape with its rates scaled down or up until the target is just met.

    Args:
        rules: {feature: {threshold: rate}}.
        similarity: standardised, (blocks, steps) per feature; made constant within the cache windows here.
        model: predicts the speed-up.
        target_speedup: what to meet.
        largest: highest rate allowed.
        settings: the schedule's other attributes, among them `cache_step`.

    Returns:
        The schedule; when not even the highest rates meet the target, the one with the highest rates.
    """
    tables = {feature: constant_in_windows(similarity[feature], settings["cache_step"]) for feature in rules}

    def build(scale: float) -> Schedule:
        return Schedule.from_thresholds(scaled(rules, scale, largest), tables, **settings)

    rates = [rate for rule in rules.values() for rate in rule.values()]
    high = largest / min(rates) if rates else 1.0
    return smallest_scale(build, model, target_speedup, high) or build(high)
