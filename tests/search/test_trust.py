"""Shrinking error curves: what is kept of the differences between blocks and steps, and what a search makes of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pydantic import ValidationError

from asymrnr.schedule import Schedule
from tuner.latency.model import LatencyModel
from tuner.profile.profile import Profile
from tuner.search.error import ErrorModel
from tuner.search.result import SearchResult
from tuner.search.space import SearchSpace, error_models
from tuner.search.study import search
from tuner.search.trust import Trust, shrink

GOAL = 1.3


@pytest.fixture
def curves() -> np.ndarray:
    """(3 blocks, 4 steps, 3 rates) of rate 0, a positive error each, and no order in them."""
    values = np.exp(np.random.default_rng(0).normal(size=(3, 4, 3)))
    values[..., 0] = 0.0
    return values


def test_full_trust_keeps_the_curves(curves: np.ndarray) -> None:
    np.testing.assert_array_equal(shrink(curves, Trust()), curves)
    np.testing.assert_allclose(shrink(curves, Trust(1.0, 1.0 - 1e-12)), curves, rtol=1e-9)


def test_no_trust_leaves_the_geometric_mean(curves: np.ndarray) -> None:
    common = np.exp(np.log(curves[..., 1:]).mean((0, 1)))
    shrunk = shrink(curves, Trust(0.0, 0.0))
    np.testing.assert_allclose(shrunk[..., 1:], np.broadcast_to(common, (3, 4, 2)))
    np.testing.assert_array_equal(shrunk[..., 0], 0.0)


def test_trust_in_blocks_alone_keeps_a_power_of_their_differences(curves: np.ndarray) -> None:
    shrunk = shrink(curves, Trust(0.5, 0.0))[..., 1:]
    np.testing.assert_allclose(shrunk, np.broadcast_to(shrunk[:, :1], shrunk.shape))  # the same at all steps
    of_block = np.exp(np.log(curves[..., 1:]).mean(1))
    np.testing.assert_allclose(shrunk[0, 0] / shrunk[1, 0], np.sqrt(of_block[0] / of_block[1]))


def test_out_of_reach_stays_so_and_does_not_spoil_the_rest(curves: np.ndarray) -> None:
    curves[1, :, 2] = np.inf  # the highest rate at one block
    curves[0, 2, 1] = 0.0  # tokens that were all alike
    shrunk = shrink(curves, Trust(0.5, 0.0))
    np.testing.assert_array_equal(np.isinf(shrunk), np.isinf(curves))
    others = np.exp(np.log(curves[[0, 2], :, 2]).mean())
    assert shrunk[0, 0, 2] * shrunk[2, 0, 2] == pytest.approx(others**2)
    assert np.isfinite(shrunk[..., 1]).all()


def test_rates_that_no_site_reaches_stay_out_of_reach(curves: np.ndarray) -> None:
    curves[..., 2] = np.inf
    assert np.isinf(shrink(curves, Trust(0.5, 0.0))[..., 2]).all()


@pytest.mark.parametrize("values", [{"blocks": 1.1}, {"steps": -0.1}])
def test_impossible_trust_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Trust(**values)
    content = {"strides": ["2x2x2"], "cache_steps": [5], "rates": [0.0, 0.5], "trusts": [values]}
    with pytest.raises(ValidationError, match="between 0 and 1"):
        SearchSpace.model_validate(content)


def test_the_error_model_adds_up_shrunk_curves(profile: Profile) -> None:
    trust = Trust(0.5, 0.0)
    rates = {"Q": np.full((3, 12), 0.6), "V": np.full((3, 12), 0.2)}
    expected = sum(
        float(shrink(curves["2x2x2", 5], trust)[..., index].sum())
        for curves, index in ((profile.q_error, 3), (profile.v_error, 1))
    )
    schedule = Schedule(rates, stride=(2, 2, 2), cache_step=5)
    assert ErrorModel(profile, trust=trust).predict(schedule) == pytest.approx(expected)


@pytest.fixture
def run(profile: Profile, model: LatencyModel, space: SearchSpace) -> Callable[..., SearchResult]:
    def run(*trusts: Trust) -> SearchResult:
        return search(profile, model, space.model_copy(update={"trusts": trusts}), GOAL, trials=60)

    return run


def test_every_trust_has_its_best_table_among_the_candidates(
    run: Callable[..., SearchResult], profile: Profile, space: SearchSpace
) -> None:
    trusts = (Trust(0.5, 0.0), Trust())
    result = run(*trusts)
    for trust, errors in zip(trusts, error_models(profile, space.model_copy(update={"trusts": trusts})), strict=True):
        best = min(errors.predict(c.schedule) for c in result.candidates)
        mine = [c for c in result.candidates if c.kind.endswith(str(trust))]
        assert min(errors.predict(c.schedule) for c in mine) == best
        assert min(c.excess for c in mine) == pytest.approx(1.0)
    assert result.candidates[0].predicted_error == min(c.predicted_error for c in result.candidates)
    assert all(c.excess >= 1 for c in result.candidates)


def test_less_trust_makes_rates_differ_less(run: Callable[..., SearchResult]) -> None:
    spreads = []
    for trust in (Trust(), Trust(0.5, 0.0), Trust(0.0, 0.0)):
        tables = [c.schedule for c in run(trust).candidates if c.schedule.form == "table"]
        spreads.append(float(tables[0].rates["Q"].std()))
    assert spreads[0] > spreads[1] > spreads[2]


def test_tables_weigh_steps_as_the_space_says(space: SearchSpace, profile: Profile) -> None:
    for errors in error_models(profile, space):
        np.testing.assert_allclose(errors.weights, space.step_weights(profile.levels))
