"""Gates pass, warn and fail where they should, say so with the number, and rarely pass what is just outside."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import foldnorm

from tuner.certify import gates
from tuner.certify.gates import DRIFT_LIMIT, NOISE_FLOOR_SHARE, Gate
from tuner.certify.statistics import LOOKS, SpeedupEstimate, estimate_speedup
from tuner.profile.agreement import Agreement

SEQUENCES = 2500


def passes(values: np.ndarray, judge: Callable[[np.ndarray, float], Gate]) -> float:
    """Share of the rows of `values` (sequences, 12) that pass at the first look that decides."""
    passed = 0
    for row in values:
        for look in LOOKS:
            gate = judge(row[: look.pairs], look.alpha)
            if not gate.open:
                break
        passed += gate.verdict == "PASS"
    return passed / len(values)


@pytest.mark.parametrize(
    ("low", "high", "verdict", "open_"),
    [(1.31, 1.5, "PASS", False), (1.3, 1.5, "PASS", False), (1.29, 1.31, "FAIL", True), (1.2, 1.29, "FAIL", False)],
)
def test_speedup_is_judged_by_its_lower_bound(low: float, high: float, verdict: str, open_: bool) -> None:
    gate = gates.speedup_gate(SpeedupEstimate(1.3, low, high, 0.01, 4), 1.3)
    assert (gate.verdict, gate.value, gate.threshold, gate.open) == (verdict, low, 1.3, open_)
    assert f"over 4 pairs, with 95% confidence at least {low:.3f}x" in gate.message


def test_a_single_pair_proves_no_speedup_and_claims_none() -> None:
    gate = gates.speedup_gate(estimate_speedup([math.log(2.0)]), 1.3)
    assert (gate.verdict, gate.open, gate.value) == ("FAIL", True, pytest.approx(2.0))
    assert "n = 1, no interval" in gate.message
    assert "at least" not in gate.message
    assert "95" not in gate.message


@pytest.mark.parametrize(
    ("spread", "share", "verdict"), [(0.02, 0.1, "PASS"), (0.06, 0.1, "FAIL"), (0.02, 0.6, "FAIL")]
)
def test_noise(spread: float, share: float, verdict: str) -> None:
    gate = gates.noise_gate(spread, share)
    assert (gate.verdict, gate.open) == (verdict, False)
    assert (gate.value > gate.threshold) == (verdict == "FAIL")


def test_an_outlier_of_three_pairs_cannot_hide() -> None:
    spread = estimate_speedup([0.26, 0.26, 0.40]).spread
    assert gates.noise_gate(spread, 0.0).verdict == "FAIL"


def test_a_single_pair_has_no_spread() -> None:
    gate = gates.noise_gate(estimate_speedup([0.3]).spread, 0.1)
    assert gate.verdict == "PASS"
    assert "n = 1" in gate.message


@pytest.mark.parametrize(("reduced", "planned", "verdict"), [(40, 40, "PASS"), (39, 40, "FAIL"), (0, 0, "FAIL")])
def test_every_planned_site_must_be_reduced_and_there_must_be_some(reduced: int, planned: int, verdict: str) -> None:
    assert gates.applied_gate(reduced, planned).verdict == verdict


@pytest.mark.parametrize("scatter", [0.2, 0.5, 1.0])
def test_video_changes_just_outside_rarely_pass(scatter: float) -> None:
    logs = np.random.default_rng(0).normal(math.log(1.02 * NOISE_FLOOR_SHARE), scatter, (SEQUENCES, LOOKS[-1].pairs))
    assert passes(np.exp(logs), lambda row, alpha: gates.video_gate(row, alpha)) <= 0.05


def test_video_changes_well_inside_mostly_pass() -> None:
    logs = np.random.default_rng(1).normal(math.log(0.4 * NOISE_FLOOR_SHARE), 0.5, (SEQUENCES, LOOKS[-1].pairs))
    assert passes(np.exp(logs), lambda row, alpha: gates.video_gate(row, alpha)) >= 0.9


@pytest.mark.parametrize(
    ("changes", "verdict", "open_"),
    [
        ([0.03, 0.04, 0.03, 0.04], "PASS", False),
        ([0.0, 0.0, 0.0, 0.0], "PASS", False),
        ([0.03, 0.15, 0.06, 0.14], "FAIL", True),
        ([0.2, 0.21, 0.2, 0.22], "FAIL", False),
    ],
)
def test_the_bound_of_the_typical_video_change_is_judged(changes: list[float], verdict: str, open_: bool) -> None:
    gate = gates.video_gate(changes, 0.025)
    assert (gate.verdict, gate.open, gate.threshold) == (verdict, open_, 0.10)
    assert gate.value == pytest.approx(np.exp(np.mean(np.log(np.maximum(changes, gates.LEAST)))))
    assert "with 95% confidence at most" in gate.message


@pytest.mark.parametrize("change", [math.nan, math.inf])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_video_change_that_is_no_number_fails(change: float) -> None:
    assert gates.video_gate([0.01, change], 0.05).verdict == "FAIL"


@pytest.mark.parametrize(("change", "verdict"), [(0.09, "PASS"), (0.11, "FAIL")])
def test_a_single_video_is_judged_by_its_point(change: float, verdict: str) -> None:
    gate = gates.video_gate([change], 0.025)
    assert (gate.verdict, gate.open) == (verdict, False)
    assert "n = 1" in gate.message
    assert "95" not in gate.message


@pytest.mark.parametrize("centre", [0.0, 0.5, 1.0, 3.0])
def test_drift_just_outside_rarely_passes(centre: float) -> None:
    """Log ratios are normal with a mean of `centre` standard deviations: 0 for ups as frequent as downs."""
    logs = np.random.default_rng(2).normal(centre, 1, (SEQUENCES, LOOKS[-1].pairs))
    logs *= 1.02 * math.log1p(DRIFT_LIMIT) / foldnorm.mean(centre)
    assert passes(np.exp(logs), lambda row, alpha: gates.drift_gate("flicker", row, alpha)) <= 0.05


@pytest.mark.parametrize(("centre", "scatter"), [(0.07, 0.02), (-0.07, 0.02), (0.0, 0.04)])
def test_drift_well_inside_mostly_passes(centre: float, scatter: float) -> None:
    logs = np.random.default_rng(3).normal(centre, scatter, (SEQUENCES, LOOKS[-1].pairs))
    assert passes(np.exp(logs), lambda row, alpha: gates.drift_gate("sharpness", row, alpha)) >= 0.9


@pytest.mark.parametrize("ratios", [[1.2, 1.2], [0.8, 0.8], [1.2, 0.8]])
def test_drift_of_either_sign_fails_and_does_not_cancel(ratios: list[float]) -> None:
    gate = gates.drift_gate("flicker", ratios, 0.05)
    assert gate.verdict == "FAIL"
    assert gate.value > gate.threshold == DRIFT_LIMIT
    assert "Flicker moves by 2" in gate.message


@pytest.mark.parametrize("ratio", [0.0, math.inf, math.nan])
@pytest.mark.parametrize("others", [[], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]])
def test_a_frozen_video_fails_for_good(ratio: float, others: list[float]) -> None:
    gate = gates.drift_gate("flicker", [ratio, *others], 0.025)
    assert (gate.verdict, gate.open) == ("FAIL", False)
    assert math.isfinite(gate.value)
    assert f"vanishes in 1 of {len(others) + 1} videos" in gate.message


def test_drift_stays_open_while_the_limit_is_within_the_interval() -> None:
    assert gates.drift_gate("flicker", [1.02, 1.3, 1.0, 1.1], 0.025).open
    assert not gates.drift_gate("flicker", [1.5, 1.51, 1.5, 1.52], 0.025).open


@pytest.mark.parametrize(("ratio", "verdict"), [(1.05, "PASS"), (0.8, "FAIL"), (1.2, "FAIL")])
def test_drift_of_a_single_video_is_judged_by_its_point(ratio: float, verdict: str) -> None:
    gate = gates.drift_gate("flicker", [ratio], 0.025)
    assert gate.verdict == verdict
    assert f"{ratio - 1:+.1%} on the whole, in the only pair (n = 1, no interval)" in gate.message


def test_attributes_lost_fail_and_attributes_never_shown_prove_nothing() -> None:
    assert gates.attribute_gate([True, True, False], [True, True, False]).verdict == "PASS"
    assert gates.attribute_gate([True, False, False], [True, True, False]).verdict == "PASS"
    assert gates.attribute_gate([True, True, False], [True, False, True]).verdict == "FAIL"
    assert gates.attribute_gate([False, False], [True, True]).verdict == "FAIL"


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


@pytest.mark.parametrize(("pairs", "verdict"), [(1, "FAIL"), (3, "FAIL"), (4, "PASS"), (8, "PASS")])
def test_a_spot_check_is_no_certificate(pairs: int, verdict: str) -> None:
    gate = gates.pairs_gate(pairs, 4)
    assert (gate.verdict, gate.open) == (verdict, verdict == "FAIL")
    assert f"{pairs} held-out pairs" in gate.message


@pytest.mark.parametrize(("reduced", "verdict"), [(60, "PASS"), (40, "PASS"), (20, "PASS"), (19, "FAIL"), (0, "FAIL")])
def test_beside_a_cache_that_decides_by_itself_at_least_half_must_be_reduced(reduced: int, verdict: str) -> None:
    assert gates.applied_gate(reduced, 40, adaptive=True).verdict == verdict
    assert gates.applied_gate(reduced, 0, adaptive=True).verdict == ("PASS" if reduced else "FAIL")
