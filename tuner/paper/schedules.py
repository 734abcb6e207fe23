"""Reads what `--schedule` and `--similarity` name: artifacts, shipped profiles, the paper's rules and its tables."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from asymrnr.artifact_io import parse_artifact
from asymrnr.schedule import FEATURES, Schedule
from asymrnr.shipped import load
from tuner.errors import UsageError
from tuner.paper.architectures import Architecture

Similarity = Mapping[str, np.ndarray]
Rule = dict[str, dict[float, float]]

SETTINGS = ("stride", "cache_step", "metric", "match_radius", "reduction", "coverage", "seed")


def read_schedule(text: str, model: str, architecture: Architecture, similarity: Similarity | None) -> Schedule:
    """The schedule that `--schedule` gives.

    Args:
        text: inline JSON (starts with "{"), a file (ends in ".json"), or the name of a shipped profile of the model.
        model: the model's name.
        architecture: the model's shapes and the paper's settings for it.
        similarity: standardised similarity by feature, (blocks, steps); rules with thresholds above 0 need it.

    Raises:
        UsageError: the text or the file cannot be understood, or a rule lacks its similarity table.
        ArtifactError: the artifact is damaged, or there is no such profile.
        ScheduleError: a value is out of range.
    """
    inline = text.lstrip().startswith("{")
    if not inline and not text.endswith(".json"):
        return load(model, text)
    name = "The schedule" if inline else text
    try:
        content = text.encode() if inline else Path(text).read_bytes()
        document = json.loads(content)
    except OSError as error:
        raise UsageError(f"The schedule {text} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not valid JSON: {error}.") from None
    if not isinstance(document, dict):
        raise UsageError(f'{name} must be a JSON object such as {{"Q": {{"0.6": 0.4}}, "V": {{"0.8": 0.3}}}}.')
    if "schema_version" in document:
        return parse_artifact(content, name).schedule_object()
    return resolve_rule(document, architecture, similarity)


def resolve_rule(document: Mapping[str, Any], architecture: Architecture, similarity: Similarity | None) -> Schedule:
    """A schedule in the manner of the paper's Table 8, with the paper's settings where the rule gives none.

    Args:
        document: per feature ("H", "Q", "V") either {threshold: rate} or one rate for all sites, and any of SETTINGS;
            "stride" as [t, h, w] or "txhxw". The coverage is "paper" unless it says otherwise.
        architecture: gives the settings and the shape of the rate tables.
        similarity: standardised similarity by feature; not needed where all thresholds are 0.

    Raises:
        UsageError: an entry cannot be understood, or a threshold lacks its similarity table.
        ScheduleError: a value is out of range.
    """
    unknown = document.keys() - {*FEATURES, *SETTINGS}
    if unknown:
        raise UsageError(
            f"The schedule has an entry '{min(unknown)}'; a rule has {', '.join(FEATURES)} and {', '.join(SETTINGS)}."
        )
    rule = {feature: _thresholds(feature, document[feature]) for feature in FEATURES if feature in document}
    everywhere = np.zeros((len(architecture.blocks), architecture.steps))
    tables: dict[str, np.ndarray] = {}
    for feature, thresholds in rule.items():
        if similarity is not None:
            tables[feature] = similarity[feature]
        elif any(thresholds):
            raise UsageError(
                f"The thresholds of {feature} refer to a similarity table; give --similarity, or an artifact."
            )
        else:
            tables[feature] = everywhere
    settings = {
        "stride": architecture.stride,
        "cache_step": architecture.cache_step,
        "coverage": "paper",
        **{name: document[name] for name in SETTINGS if name in document},
    }
    return Schedule.from_thresholds(rule, tables, **{**settings, "stride": _stride(settings["stride"])})


def read_similarity(path: Path, architecture: Architecture) -> dict[str, np.ndarray]:
    """A published similarity table: tier i of `architecture.tiers` means a standardised similarity of i / tiers.

    Args:
        path: .safetensors with integer tables h, q, v of shape (blocks, steps).
        architecture: the model it must fit.

    Returns:
        Standardised similarity in [0, 1) by feature ("H", "Q", "V").

    Raises:
        UsageError: the file cannot be read, or it holds something else, or no table was published for the model.
    """
    if architecture.tiers is None:
        raise UsageError(
            "No similarity table was published for this model, which is not in the paper; tune it instead."
        )
    try:
        tables = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise UsageError(f"The similarity table {path} cannot be read: {error}.") from None
    shape = len(architecture.blocks), architecture.steps
    for feature in FEATURES:
        table = tables.get(feature.lower())
        if table is None or not np.issubdtype(table.dtype, np.integer):
            raise UsageError(f"{path} is no published similarity table: it has no integers for '{feature.lower()}'.")
        if table.shape != shape:
            raise UsageError(
                f"The similarity table {path} has shape {table.shape}, but the model has {shape[0]} blocks "
                f"and takes {shape[1]} steps."
            )
        if table.min() < 0 or table.max() >= architecture.tiers:
            raise UsageError(
                f"The tiers in {path} go from {table.min()} to {table.max()}, not 0 to {architecture.tiers - 1}."
            )
    return {feature: tables[feature.lower()] / architecture.tiers for feature in FEATURES}


def _thresholds(feature: str, value: Any) -> dict[float, float]:
    rule = value if isinstance(value, dict) else {"0": value}
    try:
        numbers = {float(threshold): rate for threshold, rate in rule.items()}
    except ValueError:
        raise UsageError(f'The thresholds of {feature} must be numbers such as "0.6".') from None
    if not numbers:
        raise UsageError(f"{feature} has no threshold; leave it out, or give {{threshold: rate}}.")
    for threshold, rate in numbers.items():
        if not 0 <= threshold <= 1 or type(rate) not in (int, float) or not 0 <= rate < 1:
            raise UsageError(
                f"{feature} has the pair {threshold:g}: {rate!r}; thresholds lie in [0, 1], rates in [0, 1)."
            )
    return numbers


def _stride(value: Any) -> tuple[int, ...]:
    if isinstance(value, str) and re.fullmatch(r"\d+x\d+x\d+", value):
        return tuple(int(number) for number in value.split("x"))
    if isinstance(value, list | tuple) and all(type(number) is int for number in value):
        return tuple(value)
    raise UsageError(f'The stride is {value!r}; give three positive integers such as [2, 2, 2] or "2x2x2".')
