from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from asymrnr.actions import Action
from asymrnr.schedule import Schedule
from tuner.errors import UsageError
from tuner.latency.model import LatencyModel
from tuner.latency.sites import SiteLatency
from tuner.paper.architectures import find_architecture
from tuner.paper.counter import count_flops
from tuner.profile.profile import Profile
from tuner.search.error import ErrorModel

BLOCKS, STEPS = 3, 12
SETTINGS = {"stride": (2, 2, 2), "cache_step": 5}


def tables(q: float = 0.0, v: float = 0.0) -> dict[str, np.ndarray]:
    return {"Q": np.full((BLOCKS, STEPS), q), "V": np.full((BLOCKS, STEPS), v)}


def test_latency_adds_up_attention_gathering_and_one_matching_a_window(model: LatencyModel) -> None:
    full = 0.001 + 0.1
    assert model.sites.full_seconds == pytest.approx(3 * full)
    assert model.baseline_seconds == pytest.approx(1.5 + 36 * full)
    assert model.predict(Schedule(tables(), **SETTINGS)) == pytest.approx(model.baseline_seconds)
    rates = tables()
    rates["Q"][1, 3:7] = 0.6  # windows 0 and 1
    rates["V"][2, 11] = 0.3  # window 2
    site_q = 0.001 + 0.1 * 0.4 + np.interp(0.6, [0.1, 0.9], [0.002, 0.001])
    site_v = 0.001 + 0.1 * 0.7 + np.interp(0.3, [0.1, 0.9], [0.003, 0.001])
    expected = model.baseline_seconds - 5 * full + 4 * site_q + site_v + 3 * 0.008
    assert model.predict(Schedule(rates, **SETTINGS)) == pytest.approx(expected)


def test_two_calls_a_step_double_what_sites_take(model: LatencyModel) -> None:
    sites = replace(model.sites, calls=2)
    twice = replace(model, sites=sites, step_seconds=model.step_seconds + model.sites.full_seconds)
    schedule = Schedule(tables(0.6, 0.4), **SETTINGS)
    saved = model.baseline_seconds - model.predict(schedule)
    assert twice.rest_seconds == pytest.approx(model.rest_seconds)
    assert twice.baseline_seconds - twice.predict(schedule) == pytest.approx(2 * saved)


def test_every_block_has_the_times_of_its_own_shape(model: LatencyModel) -> None:
    small = model.sites.surfaces[0]
    large = replace(
        small,
        attention=tuple(tuple(10 * x for x in row) for row in small.attention),
        matching={stride: 3 * x for stride, x in small.matching.items()},
        gather_q=tuple(2 * x for x in small.gather_q),
    )
    sites = SiteLatency((small, large), (0, 1, 0))
    mixed = replace(model, sites=sites, step_seconds=sites.full_seconds + 1.5 / STEPS)
    rates = tables()
    rates["Q"][0, 1], rates["Q"][1, 2], rates["V"][1, 6] = 0.6, 0.6, 0.3
    of_block = []
    for block, surface in enumerate((small, large, small)):
        alone = SiteLatency((surface,), (0,))
        schedule = Schedule({f: table[block : block + 1] for f, table in rates.items()}, **SETTINGS)
        of_block.append(LatencyModel(alone, STEPS, alone.full_seconds).predict(schedule))
    assert mixed.predict(Schedule(rates, **SETTINGS)) == pytest.approx(1.5 + sum(of_block))
    assert mixed.baseline_seconds == pytest.approx(1.5 + 12 * (2 * 0.101 + 1.01))


def test_latency_refuses_what_it_does_not_model(model: LatencyModel) -> None:
    with pytest.raises(UsageError, match="symmetric"):
        model.predict(Schedule({"H": np.full((BLOCKS, STEPS), 0.1)}, **SETTINGS))
    with pytest.raises(UsageError, match="match_radius"):
        model.predict(Schedule(tables(0.5), match_radius=1, **SETTINGS))
    with pytest.raises(UsageError, match="3 blocks and 12 steps"):
        model.predict(Schedule({"Q": np.zeros((BLOCKS, 5))}, **SETTINGS))
    with pytest.raises(UsageError, match="4x4x4"):
        model.predict(Schedule(tables(0.5), stride=(4, 4, 4), cache_step=5))


def test_schedules_with_actions_are_refused_wherever_they_would_be_misjudged(profile: Profile) -> None:
    def with_memory(blocks: int, steps: int) -> Schedule:
        actions = np.tile([Action.REFRESH, Action.MEMORY], (blocks, steps // 2))
        return Schedule({"Q": np.where(actions == Action.MEMORY, 0.5, 0.0)}, actions=actions, **SETTINGS)

    with pytest.raises(UsageError, match="actions"):
        ErrorModel(profile).predict(with_memory(BLOCKS, STEPS))
    mochi = find_architecture("mochi")
    with pytest.raises(UsageError, match="actions"):
        count_flops(mochi, with_memory(len(mochi.blocks), mochi.steps))


def test_error_adds_up_the_curves_with_weights_and_exponent(profile: Profile) -> None:
    rates = tables()
    rates["Q"][0, 2], rates["V"][1, 3], rates["Q"][2, 4] = 0.4, 0.75, 0.5
    schedule = Schedule(rates, **SETTINGS)
    q, v = profile.q_error["2x2x2", 5], profile.v_error["2x2x2", 5]
    errors = [q[0, 2, 2], v[1, 3, 4], (q[2, 4, 2] + q[2, 4, 3]) / 2]
    assert ErrorModel(profile).predict(schedule) == pytest.approx(sum(errors))
    assert ErrorModel(profile, exponent=1.0).predict(schedule) == pytest.approx(sum(np.sqrt(errors)))
    weights = np.arange(1.0, 13.0)
    w = weights / weights.mean()
    expected = w[2] * errors[0] + w[3] * errors[1] + w[4] * errors[2]
    assert ErrorModel(profile, weights).predict(schedule) == pytest.approx(expected)


def test_rates_out_of_reach_have_infinite_error(profile: Profile) -> None:
    errors = ErrorModel(profile)
    assert errors.largest_rate("2x2x2") == 0.875
    assert errors.largest_rate("1x2x2") == 0.75
    assert np.isfinite(errors.predict(Schedule(tables(0.75), stride=(1, 2, 2), cache_step=5)))
    assert errors.predict(Schedule(tables(0.8), stride=(1, 2, 2), cache_step=5)) == np.inf
    assert errors.predict(Schedule(tables(0.9), **SETTINGS)) == np.inf


def test_error_refuses_what_was_not_profiled(profile: Profile) -> None:
    with pytest.raises(UsageError, match="cache step 3"):
        ErrorModel(profile).predict(Schedule(tables(0.2), stride=(2, 2, 2), cache_step=3))
    with pytest.raises(UsageError, match="weights"):
        ErrorModel(profile, np.ones(5))
