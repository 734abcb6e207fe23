"""What the latency model predicts, whatever its coefficients."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from asymrnr.schedule import Schedule
from tests.latency.conftest import BLOCKS, STEPS
from tuner.errors import UsageError
from tuner.latency.model import Coefficients, LatencyModel

Draw = Callable[[np.random.Generator], Schedule]
CORRECTED = Coefficients(attention=1.3, gathering=2.0, matching=0.5)


def test_the_seconds_of_sites_are_scaled_part_by_part(model: LatencyModel) -> None:
    rates = np.array([0.0, 0.3, 0.8])
    scaled = replace(model, coefficients=CORRECTED)
    attention = model.sites.attention_seconds(rates[None, :, None], rates)
    gathering = model.sites.gathering_seconds(rates[None, :, None], rates)
    assert attention.shape == gathering.shape == (BLOCKS, 3, 3)
    np.testing.assert_allclose(model.site_seconds(rates[None, :, None], rates), attention + gathering)
    np.testing.assert_allclose(scaled.site_seconds(rates[None, :, None], rates), 1.3 * attention + 2 * gathering)
    np.testing.assert_allclose(scaled.matching_seconds("2x2x2"), 0.5 * 0.008 * np.ones(BLOCKS))


def test_no_coefficient_changes_the_plain_step(model: LatencyModel) -> None:
    plain = Schedule({"Q": np.zeros((BLOCKS, STEPS))})
    for coefficients in (Coefficients(), CORRECTED, Coefficients(0.0, 0.0, 0.0)):
        scaled = replace(model, coefficients=coefficients)
        assert scaled.baseline_seconds == STEPS * model.step_seconds
        assert scaled.predict(plain) == pytest.approx(scaled.baseline_seconds)
        assert scaled.attention_share == pytest.approx(0.6 * coefficients.attention)
        assert scaled.rest_seconds == pytest.approx(scaled.baseline_seconds * (1 - scaled.attention_share))
        assert scaled.log_speedup_sd(plain) < 1e-12
        assert scaled.speedup_interval(plain) == pytest.approx((1.0, 1.0))


@pytest.mark.parametrize("coefficients", [Coefficients(), CORRECTED, Coefficients(1 / 0.6, 0.0, 3.0)])
def test_sites_and_schedules_are_the_same_seconds(model: LatencyModel, draw: Draw, coefficients: Coefficients) -> None:
    scaled = replace(model, coefficients=coefficients)
    for seed in range(5):
        schedule = draw(np.random.default_rng(seed))
        stride = "x".join(map(str, schedule.stride))
        seconds = scaled.site_seconds(schedule.rates["Q"], schedule.rates["V"]).sum()
        starts = np.arange(0, STEPS, schedule.cache_step)
        for table in schedule.rates.values():
            windows = np.add.reduceat(table, starts, axis=1) > 0
            seconds += (windows * scaled.matching_seconds(stride)[:, None]).sum()
        assert scaled.seconds(seconds) == pytest.approx(scaled.predict(schedule))
        assert scaled.speedup(schedule) == pytest.approx(scaled.baseline_seconds / scaled.predict(schedule))


@pytest.mark.parametrize("target", [0.9, 1.0, 1.3, 2.0])
def test_the_budget_inverts_the_seconds(model: LatencyModel, target: float) -> None:
    scaled = replace(model, coefficients=CORRECTED)
    assert scaled.seconds(scaled.sites_budget(target)) == pytest.approx(scaled.baseline_seconds / target)


def test_time_is_positive_even_where_attention_is_all_of_a_step(model: LatencyModel) -> None:
    steep = replace(model.sites.surfaces[0], shares=(0.5, 1.0), attention=((0.01, 0.5), (0.5, 1.0)))
    sites = replace(model.sites, surfaces=(steep,))
    extreme = LatencyModel(sites, STEPS, sites.full_seconds, Coefficients(1.0, 0.0, 0.0))
    for rate in (0.0, 0.5, 0.9, 0.999):
        rates = {"Q": np.full((BLOCKS, STEPS), rate), "V": np.full((BLOCKS, STEPS), rate)}
        assert extreme.predict(Schedule(rates)) > 0


def test_the_interval_is_that_of_a_normal_logarithm(model: LatencyModel, draw: Draw) -> None:
    schedule = draw(np.random.default_rng(0))
    sd = model.log_speedup_sd(schedule)
    low, high = model.speedup_interval(schedule)
    assert math.log(high / model.speedup(schedule)) == pytest.approx(1.959964 * sd)
    assert low * high == pytest.approx(model.speedup(schedule) ** 2)
    assert model.speedup_interval(schedule, 0.5)[1] < high
    rng = np.random.default_rng(1)
    drawn = [
        replace(model, coefficients=Coefficients(*values)).speedup(schedule)
        for values in rng.multivariate_normal([1, 1, 1, 1], model.covariance, size=1000).clip(0)
    ]
    assert np.std(np.log(drawn)) == pytest.approx(sd, rel=0.2)  # the delta method is linear


def test_a_model_survives_json(whole: LatencyModel) -> None:
    model = replace(whole, coefficients=CORRECTED)
    values = json.loads(json.dumps(model.to_dict()))
    assert LatencyModel.from_dict(values, BLOCKS, STEPS) == model
    with pytest.raises(UsageError, match="4 blocks"):
        LatencyModel.from_dict(values, 4, STEPS)
    with pytest.raises(UsageError, match="5 steps"):
        LatencyModel.from_dict(values, BLOCKS, 5)


def test_what_was_kept_before_projections_were_modelled_is_read(model: LatencyModel) -> None:
    model = replace(model, coefficients=CORRECTED)
    values = json.loads(json.dumps(model.to_dict()))
    del values["sites"]["projections"], values["coefficients"]["projection"], values["sites"]["surfaces"][0]["residual"]
    values["covariance"] = [row[:3] for row in values["covariance"][:3]]
    assert LatencyModel.from_dict(values, BLOCKS, STEPS) == model


@pytest.mark.parametrize(
    "change",
    [
        {"step_seconds": 0.0},
        {"step_seconds": float("nan")},
        {"step_seconds": 0.1},  # less than its attention
        {"step_seconds": None},
        {"coefficients": {"attention": -0.1}},
        {"coefficients": {"speed": 1.0}},
        {"covariance": [[1.0]]},
        {"covariance": [[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]},
        {"covariance": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]},  # no longer goes with the coefficients
        {"coefficients": {"attention": 1.0, "projection": 2.1}},  # both together more than the step
        {"sites": {}},
    ],
)
def test_damage_is_one_sentence(whole: LatencyModel, change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="measure it again"):
        LatencyModel.from_dict({**whole.to_dict(), **change}, BLOCKS, STEPS)


@pytest.mark.parametrize("projections", [[0.1], [0.1, 0.1, -0.1], [0.1, 0.1, math.inf], [0.1, 0.1, "x"], None, 3.0])
def test_damaged_projections_are_one_sentence(whole: LatencyModel, projections: object) -> None:
    values = whole.to_dict()
    with pytest.raises(UsageError, match="measure it again"):
        LatencyModel.from_dict({**values, "sites": {**values["sites"], "projections": projections}}, BLOCKS, STEPS)
