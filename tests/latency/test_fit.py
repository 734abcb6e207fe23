"""Pooling measurements: what is learnt, what is not believed, and what can never come out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import astuple, replace

import numpy as np
import pytest

from asymrnr.actions import Action
from asymrnr.partner import Partner
from asymrnr.schedule import Schedule
from tests.latency.conftest import BLOCKS, STEPS
from tuner.errors import UsageError
from tuner.latency.fit import Evidence, _bounded, fit
from tuner.latency.model import PROJECTION_SD, Coefficients, LatencyModel

Draw = Callable[[np.random.Generator], Schedule]


def measured(truth: LatencyModel, schedule: Schedule, error: float, rng: np.random.Generator) -> Evidence:
    return Evidence(schedule, math.log(truth.speedup(schedule)) + error * rng.normal(), error)


def drawn(model: LatencyModel, rng: np.random.Generator) -> LatencyModel:
    """A machine that the prior thinks likely."""
    values = rng.multivariate_normal(np.ones(4), model.covariance).clip(0)
    values /= max(1.0, model.full_shares @ values)
    return replace(model, coefficients=Coefficients(*values.tolist()))


def uniform(rate_q: float, rate_v: float = 0.0) -> Schedule:
    shape = BLOCKS, STEPS
    return Schedule({"Q": np.full(shape, rate_q), "V": np.full(shape, rate_v)}, cache_step=6)


def test_nothing_measured_is_the_prior(model: LatencyModel) -> None:
    assert fit(model, []) is model


def test_planted_coefficients_are_found(model: LatencyModel, draw: Draw) -> None:
    rng = np.random.default_rng(0)
    truth = replace(model, coefficients=Coefficients(1.25, 0.6, 1.5))
    found = fit(model, [measured(truth, draw(rng), 0.01, rng) for _ in range(200)])
    errors = np.array(astuple(found.coefficients)) - astuple(truth.coefficients)
    deviations = np.sqrt(np.diag(found.covariance))
    assert (np.abs(errors) < 3 * deviations).all()
    assert (deviations[:3] < [0.02, 0.1, 0.1]).all()
    assert deviations[3] == pytest.approx(PROJECTION_SD)  # nothing was broadcast
    for seed in range(5):
        schedule = draw(np.random.default_rng(seed))
        assert found.speedup(schedule) == pytest.approx(truth.speedup(schedule), rel=0.01)


def test_planted_coefficients_are_found_by_what_acts(whole: LatencyModel, draw_actions: Draw) -> None:
    rng = np.random.default_rng(0)
    truth = replace(whole, coefficients=Coefficients(1.15, 0.6, 1.5, 0.7))
    found = fit(whole, [measured(truth, draw_actions(rng), 0.01, rng) for _ in range(200)])
    errors = np.array(astuple(found.coefficients)) - astuple(truth.coefficients)
    deviations = np.sqrt(np.diag(found.covariance))
    assert (np.abs(errors) < 3 * deviations).all()
    assert (deviations < [0.02, 0.15, 0.1, 0.05]).all()
    for seed in range(5):
        schedule = draw_actions(np.random.default_rng(seed))
        assert found.speedup(schedule) == pytest.approx(truth.speedup(schedule), rel=0.01)


@pytest.mark.parametrize("pieces", [1, 4])
@pytest.mark.parametrize("acting", [False, True])
def test_intervals_cover_what_they_say(
    model: LatencyModel, whole: LatencyModel, draw: Draw, draw_actions: Draw, pieces: int, acting: bool
) -> None:
    inside = []
    prior, draw = (whole, draw_actions) if acting else (model, draw)
    for seed in range(50 if acting else 150):
        rng = np.random.default_rng(seed)
        truth = drawn(prior, rng)
        found = fit(prior, [measured(truth, draw(rng), rng.uniform(0.01, 0.05), rng) for _ in range(pieces)])
        for _ in range(3):
            schedule = draw(rng)
            low, high = found.speedup_interval(schedule)
            inside.append(low <= truth.speedup(schedule) <= high)
    assert np.mean(inside) >= 0.9


def test_intervals_shrink_with_evidence_and_more_where_it_is_surer(model: LatencyModel, draw: Draw) -> None:
    rng = np.random.default_rng(1)
    schedules, asked = [draw(rng) for _ in range(8)], draw(rng)
    evidence = [Evidence(s, math.log(model.speedup(s)), 0.02) for s in schedules]
    deviations = [fit(model, evidence[:n]).log_speedup_sd(asked) for n in range(9)]
    assert deviations == sorted(deviations, reverse=True)
    assert deviations[-1] < 0.5 * deviations[0]
    vague = [replace(one, standard_error=0.2) for one in evidence]
    assert fit(model, vague).log_speedup_sd(asked) > deviations[-1]


def test_a_vague_measurement_of_much_too_much_does_not_derail(model: LatencyModel) -> None:
    """One that said 2.23x, thirty per cent uncertain, once turned all later predictions upside down."""
    schedule = uniform(0.45)
    assert 1.2 < model.speedup(schedule) < 1.35
    found = fit(model, [Evidence(schedule, math.log(2.23), 0.3)])
    assert found.speedup(schedule) == pytest.approx(model.speedup(schedule), rel=0.04)
    good = [Evidence(schedule, math.log(1.28), 0.01), Evidence(schedule, math.log(2.23), 0.3)]
    assert fit(model, good).speedup(schedule) == pytest.approx(fit(model, good[:1]).speedup(schedule), rel=0.003)


def test_what_says_nothing_changes_nothing(model: LatencyModel) -> None:
    for error in (1e6, math.inf):
        found = fit(model, [Evidence(uniform(0.5), 3.0, error)])
        np.testing.assert_allclose(astuple(found.coefficients), 1.0, atol=1e-6)
        np.testing.assert_allclose(found.covariance, model.covariance, atol=1e-6)


@pytest.mark.parametrize("wild", [-1.0, -0.3, 0.4, 1.0, 8.0])
def test_one_wild_measurement_among_many_barely_counts(model: LatencyModel, draw: Draw, wild: float) -> None:
    rng = np.random.default_rng(2)
    truth = replace(model, coefficients=Coefficients(1.1, 0.8, 1.2))
    evidence = [measured(truth, draw(rng), 0.01, rng) for _ in range(12)]
    schedule = draw(rng)
    clean = fit(model, evidence)
    spoilt = fit(model, [*evidence, Evidence(schedule, wild, 0.01)])
    moved = math.log(spoilt.speedup(schedule) / clean.speedup(schedule))
    assert abs(moved) < 1.5 * clean.log_speedup_sd(schedule) < 0.015


def test_one_wild_measurement_alone_is_bounded(model: LatencyModel) -> None:
    schedule = uniform(0.5)
    far, farther = (fit(model, [Evidence(schedule, -x, 0.01)]).coefficients for x in (2.0, 20.0))
    np.testing.assert_allclose(astuple(far), astuple(farther), rtol=0.05)


def test_what_agrees_is_believed_against_the_prior(model: LatencyModel, draw: Draw) -> None:
    """Attention that is four standard deviations cheaper than its micro-benchmark."""
    rng = np.random.default_rng(3)
    truth = replace(model, coefficients=Coefficients(0.4, 1.0, 1.0))
    found = fit(model, [measured(truth, draw(rng), 0.01, rng) for _ in range(6)])
    schedule = uniform(0.6, 0.3)
    assert found.speedup(schedule) == pytest.approx(truth.speedup(schedule), rel=0.02)


def test_the_order_does_not_matter(model: LatencyModel, draw: Draw) -> None:
    rng = np.random.default_rng(4)
    truth = drawn(model, rng)
    evidence = [measured(truth, draw(rng), 0.02, rng) for _ in range(9)]
    evidence.append(Evidence(draw(rng), 1.0, 0.01))
    one = fit(model, evidence)
    for _ in range(5):
        other = fit(model, [evidence[i] for i in rng.permutation(len(evidence))])
        np.testing.assert_allclose(astuple(other.coefficients), astuple(one.coefficients), rtol=0, atol=1e-9)
        np.testing.assert_allclose(other.covariance, one.covariance, rtol=0, atol=1e-9)


def test_a_fitted_model_goes_on_with_what_is_new(model: LatencyModel, draw: Draw) -> None:
    rng = np.random.default_rng(5)
    evidence = [measured(model, draw(rng), 0.03, np.random.default_rng(0)) for _ in range(4)]
    at_once, in_turn = fit(model, evidence), fit(fit(model, evidence[:2]), evidence[2:])
    np.testing.assert_allclose(astuple(in_turn.coefficients), astuple(at_once.coefficients), atol=0.02)
    np.testing.assert_allclose(in_turn.covariance, at_once.covariance, atol=0.01)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("acting", [False, True])
def test_time_stays_positive_whatever_is_claimed(
    model: LatencyModel, whole: LatencyModel, draw: Draw, draw_actions: Draw, acting: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    prior, draw = (whole, draw_actions) if acting else (model, draw)
    claims = [
        Evidence(draw(rng), float(rng.choice([-90, -3, -0.5, 0.0, 0.8, 3, 90])), float(rng.choice([0.0, 0.01, 1.0])))
        for _ in range(rng.integers(1, 8))
    ]
    found = fit(prior, claims)
    values = np.array(astuple(found.coefficients))
    assert (values >= 0).all()
    assert found.full_shares @ values <= 1 + 1e-9
    assert found.outside_seconds >= 0
    for _ in range(50):
        schedule = draw(rng)
        assert found.predict(schedule) > 0
        low, high = found.speedup_interval(schedule)
        assert 0 < low <= found.speedup(schedule) <= high < math.inf


def test_more_than_attention_is_never_saved(model: LatencyModel) -> None:
    """Ten measurements of a speed-up that no saving of attention explains."""
    found = fit(model, [Evidence(uniform(0.5), math.log(8.0), 0.0)] * 10)
    assert found.attention_share == pytest.approx(1.0)
    assert found.coefficients.gathering == found.coefficients.matching == 0


def test_more_than_attention_modules_is_never_saved(whole: LatencyModel) -> None:
    """Ten measurements of a speed-up that not even the whole module explains."""
    actions = np.tile([Action.REFRESH, *[Action.BROADCAST] * 3], (BLOCKS, STEPS // 4))
    found = fit(whole, [Evidence(Schedule({"Q": np.zeros(actions.shape)}, actions=actions), math.log(8.0), 0.0)] * 10)
    assert found.full_shares @ astuple(found.coefficients) == pytest.approx(1.0)
    assert found.coefficients.attention > 1
    assert found.coefficients.projection > 1
    assert found.outside_seconds == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("seed", range(30))
def test_the_least_within_the_bounds_is_found(seed: int) -> None:
    """No step to a corner of what attention and projections may be, nor to more or less of the others, goes below."""
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(4, 4))
    normal, right = roots @ roots.T + 0.01 * np.eye(4), rng.normal(scale=3, size=4)
    shares = np.array([rng.uniform(0.1, 1), 0, 0, rng.choice([0.0, rng.uniform(0.1, 1)])])
    found = _bounded(normal, right, shares)
    slope = normal @ found - right
    assert (found >= 0).all()
    assert shares @ found <= 1 + 1e-12
    for index in np.flatnonzero(shares == 0):
        assert slope[index] >= -1e-8
        assert slope[index] * found[index] == pytest.approx(0, abs=1e-8)
    bound = np.flatnonzero(shares)
    corners = [np.zeros(4), *(np.eye(4)[index] / shares[index] for index in bound)]
    for corner in corners:
        assert slope[bound] @ (corner - found)[bound] >= -1e-8


@pytest.mark.parametrize("values", [(math.nan, 0.1), (math.inf, 0.1), (0.1, -1.0), (0.1, math.nan)])
def test_evidence_that_makes_no_sense_is_refused(values: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="evidence"):
        Evidence(uniform(0.5), *values)


def test_schedules_that_are_not_modelled_are_refused(model: LatencyModel) -> None:
    with pytest.raises(UsageError, match="blocks"):
        fit(model, [Evidence(Schedule({"Q": np.zeros((1, STEPS))}), 0.1, 0.1)])


def test_the_truth_is_found_from_schedules_that_leave_blocks_out(whole: LatencyModel, draw: Draw) -> None:
    whole, rng = replace(whole, reused_share=0.05), np.random.default_rng(5)
    truth, evidence = replace(whole, coefficients=Coefficients(1.15, 0.6, 1.5, 1.0)), []
    for number in range(40):
        left_out = np.arange(whole.steps) % (2 + number % 3) == 1
        drawn = draw(rng)
        rates = {feature: np.where(left_out, 0.0, table) for feature, table in drawn.rates.items()}
        schedule = replace(drawn, rates=rates, partner=Partner.planned(left_out))
        evidence.append(Evidence(schedule, math.log(truth.speedup(schedule)), 0.001))
    found = fit(whole, evidence)
    for one in evidence:
        assert found.speedup(one.schedule) == pytest.approx(truth.speedup(one.schedule), rel=0.003)
    assert found.coefficients.attention == pytest.approx(1.15, rel=0.02)
