"""The paper's Table 8 ships as profiles that load by name, and as nothing more than that."""

from __future__ import annotations

from typing import Any

import pytest

import asymrnr
from asymrnr.find import available_profiles
from asymrnr.shipped import load_shipped

COGVIDEOX_BASE = {"Q": {0.6: 0.4, 0.7: 0.8}, "V": {0.8: 0.3}}
COGVIDEOX_FAST = {"Q": {0.6: 0.6, 0.7: 0.8}, "V": {0.7: 0.3, 0.9: 0.4}}
HUNYUAN_BASE = {"Q": {0.7: 0.9}, "V": {0.8: 0.3}}
TABLE_8: list[tuple[str, str, Any]] = [
    ("cogvideox-2b", "paper-base", COGVIDEOX_BASE),
    ("cogvideox-2b", "paper-fast", COGVIDEOX_FAST),
    ("cogvideox-5b", "paper-base", COGVIDEOX_BASE),
    ("cogvideox-5b", "paper-fast", COGVIDEOX_FAST),
    ("mochi", "paper-base", {"Q": {0.5: 0.7}, "V": {0.7: 0.3}}),
    ("mochi", "paper-fast", {"Q": {0.45: 0.6, 0.5: 0.7}, "V": {0.7: 0.3}}),
    ("hunyuanvideo", "paper-base", HUNYUAN_BASE),
    ("hunyuanvideo", "paper-fast", {"Q": {0.5: 0.3, 0.7: 0.9}, "V": {0.8: 0.3}}),
    ("fastvideo-hunyuan", "paper-base", HUNYUAN_BASE),
    ("fastvideo-hunyuan", "paper-fast", {"Q": {0.7: 0.9}, "V": {0.8: 0.4}}),
]
# (blocks, steps), partition stride and cache step of the paper's experiments
SETTINGS: dict[str, tuple[tuple[int, int], tuple[int, int, int], int]] = {
    "cogvideox-2b": ((30, 50), (2, 2, 2), 5),
    "cogvideox-5b": ((42, 50), (2, 2, 2), 5),
    "mochi": ((48, 30), (6, 2, 2), 3),
    "hunyuanvideo": ((60, 30), (6, 2, 2), 3),
    "fastvideo-hunyuan": ((60, 6), (6, 2, 2), 1),
}


@pytest.mark.parametrize(("model", "target", "rule"), TABLE_8)
def test_table_8_loads_by_name(model: str, target: str, rule: dict[str, dict[float, float]]) -> None:
    schedule = asymrnr.load(model, target)
    shape, stride, cache_step = SETTINGS[model]
    assert schedule.thresholds == rule
    assert (schedule.blocks, schedule.steps) == shape
    assert (schedule.stride, schedule.cache_step, schedule.coverage) == (stride, cache_step, "paper")
    for feature, thresholds in rule.items():
        rates = set(schedule.rates[feature].flatten().tolist())
        assert set(thresholds.values()) <= rates <= {0.0, *thresholds.values()}


@pytest.mark.parametrize(("model", "target", "_rule"), TABLE_8)
def test_they_claim_no_certificate(model: str, target: str, _rule: Any) -> None:
    artifact = load_shipped(model, target)
    assert not artifact.certified
    assert artifact.evidence is None
    assert artifact.gates == ()
    assert "Table 8" in str(artifact.provenance.source)
    assert artifact.model.repo == model


def test_all_of_table_8_is_listed() -> None:
    profiles = available_profiles()
    for model in SETTINGS:
        assert {"paper-base", "paper-fast"} <= set(profiles[model])
