"""A search's result as plain values, so that a run that is resumed or reported again does not search again."""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from typing import Any

from asymrnr.sections import ScheduleSection
from tuner.search.result import Candidate, FrontierPoint, Recipe, SearchResult, TrialRecord, Window

_PLAIN = ("bound", "best_attainable", "price_of_interpretability")


def to_record(result: SearchResult) -> dict[str, Any]:
    """Plain values for JSON, from which `from_record` makes the same result again."""
    return {
        "candidates": [_candidate_to_record(candidate) for candidate in result.candidates],
        "history": [[_finite(value) for value in record] for record in result.history],
        "frontier": [list(point) for point in result.frontier],
        "memory_frontier": [list(point) for point in result.memory_frontier],
        "threshold_points": [[_finite(value) for value in point] for point in result.threshold_points],
        **{name: _finite(getattr(result, name)) for name in _PLAIN},
    }


def from_record(values: dict[str, Any]) -> SearchResult:
    """The result that `to_record` gave, also after JSON."""
    return SearchResult(
        candidates=[_candidate_from_record(candidate) for candidate in values["candidates"]],
        history=[TrialRecord(*map(_number, record)) for record in values["history"]],
        frontier=[FrontierPoint(*point) for point in values["frontier"]],
        memory_frontier=[FrontierPoint(*point) for point in values.get("memory_frontier", [])],
        threshold_points=[FrontierPoint(*map(_number, point)) for point in values["threshold_points"]],
        **{name: _number(values[name]) for name in _PLAIN},
    )


def _candidate_to_record(candidate: Candidate) -> dict[str, Any]:
    plain = {f.name: getattr(candidate, f.name) for f in fields(candidate) if f.name not in ("schedule", "recipe")}
    rules = {feature: list(rule.items()) for feature, rule in candidate.recipe.rules.items()}
    return {
        **plain,
        "schedule": ScheduleSection.from_schedule(candidate.schedule).model_dump(mode="json"),
        "recipe": {**asdict(candidate.recipe), "rules": rules},
    }


def _candidate_from_record(values: dict[str, Any]) -> Candidate:
    rules = {feature: {float(t): float(r) for t, r in rule} for feature, rule in values["recipe"]["rules"].items()}
    schedule = ScheduleSection.model_validate(values["schedule"]).schedule()
    window = values["recipe"].get("window")
    changed = {"rules": rules, "window": None if window is None else Window(*window)}
    return Candidate(**{**values, "schedule": schedule, "recipe": Recipe(**{**values["recipe"], **changed})})


def _finite(value: Any) -> Any:
    """JSON has neither infinity nor NaN."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: Any) -> Any:
    return float(value) if value in ("nan", "inf", "-inf") else value
