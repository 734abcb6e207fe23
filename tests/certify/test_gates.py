"""Gates pass, warn and fail where they should, and say so with the number."""

from __future__ import annotations

import pytest

from tuner.certify import gates
from tuner.certify.statistics import SpeedupEstimate
from tuner.profile.agreement import Agreement


@pytest.mark.parametrize(("bound", "verdict"), [(1.31, "PASS"), (1.30, "PASS"), (1.299, "FAIL")])
def test_speedup_is_judged_by_its_lower_bound(bound: float, verdict: str) -> None:
    gate = gates.speedup_gate(SpeedupEstimate(1.4, bound, 0.01, 3), 1.3)
    assert (gate.verdict, gate.value, gate.threshold) == (verdict, bound, 1.3)
    assert f"{bound:.3f}x" in gate.message


@pytest.mark.parametrize(("mad", "verdict"), [(0.01, "PASS"), (0.051, "FAIL")])
def test_noise(mad: float, verdict: str) -> None:
    assert gates.noise_gate(mad).verdict == verdict


@pytest.mark.parametrize(("reduced", "planned", "verdict"), [(40, 40, "PASS"), (39, 40, "FAIL"), (0, 0, "FAIL")])
def test_every_planned_site_must_be_reduced_and_there_must_be_some(reduced: int, planned: int, verdict: str) -> None:
    assert gates.applied_gate(reduced, planned).verdict == verdict


def test_video_change_is_held_against_what_another_seed_changes() -> None:
    assert gates.video_gate([0.001, 0.003], noise_floor=0.04).verdict == "PASS"
    gate = gates.video_gate([0.01, 0.002], noise_floor=0.04)
    assert gate.verdict == "FAIL"
    assert gate.value == pytest.approx(0.15)


def test_attributes_lost_fail_and_attributes_never_shown_prove_nothing() -> None:
    assert gates.attribute_gate([True, True, False], [True, True, False]).verdict == "PASS"
    assert gates.attribute_gate([True, False, False], [True, True, False]).verdict == "PASS"
    assert gates.attribute_gate([True, True, False], [True, False, True]).verdict == "FAIL"
    assert gates.attribute_gate([False, False], [True, True]).verdict == "FAIL"


@pytest.mark.parametrize(("ratio", "verdict"), [(1.05, "PASS"), (0.85, "WARN"), (1.2, "WARN")])
def test_drift_only_warns(ratio: float, verdict: str) -> None:
    gate = gates.drift_gate("flicker", [ratio])
    assert gate.verdict == verdict
    assert f"{ratio - 1:+.1%}" in gate.message


@pytest.mark.parametrize(("worst", "verdict"), [(0.9, "PASS"), (0.5, "WARN")])
def test_the_feature_that_two_prompts_agree_least_on_is_named(worst: float, verdict: str) -> None:
    gate = gates.agreement_gate({"Q": Agreement(0.95, 0.9, 0.99), "V": Agreement(worst, 0.3, 0.97)})
    assert (gate.verdict, gate.value) == (verdict, worst)
    assert "similarity of V" in gate.message


@pytest.mark.parametrize(("measured", "verdict"), [(1.30, "PASS"), (1.20, "WARN"), (1.50, "WARN")])
def test_predictions_that_missed_warn(measured: float, verdict: str) -> None:
    assert gates.prediction_gate(1.33, measured).verdict == verdict


@pytest.mark.parametrize(("off", "verdict"), [(1e-8, "PASS"), (0.02, "WARN")])
def test_attention_that_cannot_be_recomputed_warns(off: float, verdict: str) -> None:
    assert gates.observation_gate(off).verdict == verdict
