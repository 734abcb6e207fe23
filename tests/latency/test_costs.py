"""What every action takes, counted by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from asymrnr.actions import Action
from asymrnr.partner import Partner
from asymrnr.schedule import Schedule
from tests.latency.conftest import BLOCKS, STEPS
from tuner.errors import UsageError
from tuner.latency.model import Coefficients, LatencyModel
from tuner.strides import stride_name

Draw = Callable[[np.random.Generator], Schedule]
CORRECTED = Coefficients(attention=1.2, gathering=2.0, matching=0.5, projection=0.8)
FULL, MATCHING = 0.101, 0.008
Q, V = 0.6, 0.3
AT_Q, AT_V, AT_BOTH = (0.001 + 0.1 * q * v for q, v in ((1 - Q, 1), (1, 1 - V), (1 - Q, 1 - V)))
LEARNT, ADDED, EVERYWHERE = np.interp(Q, [0.1, 0.9], [0.004, 0.006]), np.interp(Q, [0.1, 0.9], [0.001, 0.003]), 0.005
GATHERED_Q, GATHERED_V = np.interp(Q, [0.1, 0.9], [0.004, 0.002]), np.interp(V, [0.1, 0.9], [0.006, 0.002])


def table(*actions: Action) -> np.ndarray:
    """One row of actions for each block."""
    return np.tile(actions, (BLOCKS, STEPS // len(actions)))


def alternating(action: Action, q: float = 0.0, v: float = 0.0, blocks: tuple[int, ...] = (0, 1, 2)) -> Schedule:
    """Every second step in full, the others as said; blocks not named as they are."""
    actions = table(Action.REFRESH, action)
    actions[[block for block in range(BLOCKS) if block not in blocks]] = Action.REDUCE
    rates = {feature: np.where(actions == action, rate, 0.0) for feature, rate in (("Q", q), ("V", v))}
    return Schedule(rates, actions=actions)


@pytest.mark.parametrize(
    ("action", "q", "v", "attention", "gathering", "matching"),
    [
        (Action.REDUCE, 0.0, 0.0, FULL, 0.0, 0.0),
        (Action.REDUCE, Q, V, AT_BOTH, GATHERED_Q + GATHERED_V, 0.0),
        (Action.REFRESH, 0.0, 0.0, FULL, 0.0, 0.0),
        (Action.REFRESH, Q, 0.0, FULL, GATHERED_Q + LEARNT, MATCHING),
        (Action.REFRESH, 0.0, V, FULL + AT_V, GATHERED_V + EVERYWHERE, MATCHING),
        (Action.REFRESH, Q, V, FULL + AT_BOTH, GATHERED_Q + GATHERED_V + EVERYWHERE, 2 * MATCHING),
        (Action.MEMORY, Q, 0.0, AT_Q, GATHERED_Q + ADDED, 0.0),
        (Action.MEMORY, 0.0, V, AT_V, GATHERED_V + EVERYWHERE, 0.0),
        (Action.MEMORY, Q, V, AT_BOTH, GATHERED_Q + GATHERED_V + EVERYWHERE, 0.0),
    ],
)
def test_a_step_by_what_is_done(
    whole: LatencyModel, action: Action, q: float, v: float, attention: float, gathering: float, matching: float
) -> None:
    projection = np.array(whole.sites.projections)
    plain, scaled = (m.action_seconds(action, q, v, "2x2x2") for m in (whole, replace(whole, coefficients=CORRECTED)))
    np.testing.assert_allclose(plain, attention + gathering + matching + projection)
    np.testing.assert_allclose(scaled, 1.2 * attention + 2 * gathering + 0.5 * matching + 0.8 * projection)


def test_memory_that_was_not_measured_takes_gathering_once_more(model: LatencyModel) -> None:
    for action, attention, matching in ((Action.REFRESH, FULL, MATCHING), (Action.MEMORY, AT_Q, 0.0)):
        found = model.action_seconds(action, Q, 0.0, "2x2x2")
        np.testing.assert_allclose(found, attention + 2 * GATHERED_Q + matching)
    found = model.action_seconds(Action.MEMORY, Q, V, "2x2x2")
    np.testing.assert_allclose(found, AT_BOTH + GATHERED_Q + GATHERED_V + 0.004)


def test_broadcasting_takes_nothing(whole: LatencyModel) -> None:
    seconds = replace(whole, coefficients=CORRECTED).action_seconds(Action.BROADCAST, np.zeros((1, 4)), 0.0, "2x2x2")
    assert seconds.shape == (BLOCKS, 4)
    assert (seconds == 0).all()


@pytest.mark.parametrize("action", Action)
def test_all_rates_are_priced_at_once(whole: LatencyModel, action: Action) -> None:
    rates = np.array([0.0, 0.3, 0.8])
    seconds = whole.action_seconds(action, rates[None, :, None], rates, "1x2x2")
    assert seconds.shape == (BLOCKS, 3, 3)
    for i, q in enumerate(rates):
        for j, v in enumerate(rates):
            np.testing.assert_allclose(seconds[:, i, j], whole.action_seconds(action, q, v, "1x2x2"))


def test_two_calls_a_step_double_attention_but_not_what_was_timed_whole(whole: LatencyModel) -> None:
    projection = np.array(whole.sites.projections)
    sites = replace(whole.sites, calls=2)
    twice = replace(whole, sites=sites, step_seconds=2 * whole.step_seconds)
    for action in (Action.REDUCE, Action.REFRESH, Action.MEMORY):
        once = whole.action_seconds(action, Q, V, "2x2x2") - projection
        np.testing.assert_allclose(twice.action_seconds(action, Q, V, "2x2x2") - projection, 2 * once)


def test_a_schedule_with_memory_by_hand(whole: LatencyModel) -> None:
    scaled, half = replace(whole, coefficients=CORRECTED), STEPS / 2
    for blocks in ((0, 1, 2), (1,)):
        expected = len(blocks) * half * (1.2 * (AT_Q - FULL) + 2 * (2 * GATHERED_Q + LEARNT + ADDED) + 0.5 * MATCHING)
        found = scaled.predict(alternating(Action.MEMORY, Q, blocks=blocks)) - scaled.baseline_seconds
        assert found == pytest.approx(expected)
    gathering = 2 * (GATHERED_Q + GATHERED_V + EVERYWHERE)
    expected = 3 * half * (1.2 * (2 * AT_BOTH - FULL) + 2 * gathering + 0.5 * 2 * MATCHING)
    assert scaled.predict(alternating(Action.MEMORY, Q, V)) - scaled.baseline_seconds == pytest.approx(expected)


def test_a_schedule_that_broadcasts_by_hand(whole: LatencyModel) -> None:
    scaled, half = replace(whole, coefficients=CORRECTED), STEPS / 2
    for block in range(BLOCKS):
        saved = half * (1.2 * FULL + 0.8 * whole.sites.projections[block])
        found = scaled.baseline_seconds - scaled.predict(alternating(Action.BROADCAST, blocks=(block,)))
        assert found == pytest.approx(saved)


def test_a_refresh_for_memory_and_broadcasting_is_one(whole: LatencyModel) -> None:
    """Matchings of memory sites know no cache windows, and one refresh serves every step up to the next."""
    actions = table(Action.REFRESH, Action.MEMORY, Action.BROADCAST, Action.MEMORY)
    schedule = Schedule({"Q": np.where(actions == Action.MEMORY, Q, 0.0)}, cache_step=5, actions=actions)
    refreshes, site = 3 * STEPS / 4, AT_Q + GATHERED_Q + ADDED
    at_refresh = FULL + GATHERED_Q + LEARNT + MATCHING
    projections = STEPS * 0.75 * sum(whole.sites.projections)
    expected = whole.outside_seconds + refreshes * (at_refresh + 2 * site) + projections
    assert whole.predict(schedule) == pytest.approx(expected)


def test_copying_keeps_its_cache_windows_beside_memory(whole: LatencyModel) -> None:
    """Rates of memory sites are no reason to match in a cache window."""
    actions = np.zeros((BLOCKS, STEPS), dtype=int)
    actions[0, :4] = [Action.REFRESH, Action.MEMORY, Action.MEMORY, Action.BROADCAST]
    rates = np.where(actions == Action.MEMORY, Q, 0.0)
    rates[0, 5] = rates[0, 11] = Q  # windows 1 and 2 of four steps each
    schedule = Schedule({"Q": rates}, cache_step=4, actions=actions)
    refresh, sites = FULL + GATHERED_Q + LEARNT + MATCHING, 4 * (AT_Q + GATHERED_Q) + 2 * ADDED + 2 * MATCHING
    seconds = refresh + sites - 6 * FULL
    spared = whole.sites.projections[0]
    assert whole.predict(schedule) - whole.baseline_seconds == pytest.approx(seconds - spared)


@pytest.mark.parametrize("seed", range(10))
def test_actions_and_schedules_are_the_same_seconds(whole: LatencyModel, draw_actions: Draw, seed: int) -> None:
    scaled, schedule = replace(whole, coefficients=CORRECTED), draw_actions(np.random.default_rng(seed))
    windows, stride = schedule.windows(), stride_name(schedule.stride)
    assert windows is not None
    seconds = scaled.outside_seconds
    for block, step in np.ndindex(BLOCKS, STEPS):
        action = Action(windows.table[block, step])
        rates = windows.rates if action == Action.REFRESH else schedule.rates
        q, v = (rates[feature][block, step] for feature in ("Q", "V"))
        seconds += scaled.action_seconds(action, q, v, stride)[block]
    for rates in schedule.rates.values():
        copied = np.where(windows.table == Action.REDUCE, rates, 0.0)
        matched = np.add.reduceat(copied, np.arange(0, STEPS, schedule.cache_step), axis=1) > 0
        seconds += (matched * scaled.matching_seconds(stride)[:, None]).sum()
    assert scaled.predict(schedule) == pytest.approx(seconds)


def test_without_actions_projections_change_nothing(model: LatencyModel, whole: LatencyModel, draw: Draw) -> None:
    for seed in range(20):
        schedule = draw(np.random.default_rng(seed))
        found = whole.sensitivity(schedule)
        assert found[3] == 0
        np.testing.assert_array_equal(found, model.sensitivity(schedule))
        for m in (whole, replace(whole, coefficients=replace(CORRECTED, projection=0.1))):
            coefficients = m.coefficients.attention, m.coefficients.gathering, m.coefficients.matching
            assert m.predict(schedule) == pytest.approx(m.baseline_seconds * (1 + found[:3] @ coefficients), rel=1e-15)
            assert m.log_speedup_sd(schedule) == pytest.approx(
                replace(model, coefficients=m.coefficients).log_speedup_sd(schedule), rel=1e-14
            )


def test_broadcasting_saves_more_than_attention(whole: LatencyModel, model: LatencyModel) -> None:
    actions = table(*[Action.REFRESH, *[Action.BROADCAST] * (STEPS - 1)])
    schedule = Schedule({"Q": np.zeros(actions.shape)}, actions=actions)
    assert whole.predict(schedule) < whole.rest_seconds  # what is left where attention takes nothing at all
    assert whole.predict(schedule) == pytest.approx(whole.outside_seconds + 0.8 * whole.step_seconds)
    assert model.predict(schedule) == pytest.approx(model.rest_seconds + 0.6 * model.step_seconds)  # not measured


@pytest.mark.parametrize("seed", range(20))
def test_time_is_positive_whatever_the_modules_take(whole: LatencyModel, draw_actions: Draw, seed: int) -> None:
    rng = np.random.default_rng(seed)
    attention, _, _, projection = whole.full_shares
    for share in (0.0, 0.5, 1.0):  # of modules that are all of a step
        extreme = replace(whole, coefficients=Coefficients(share / attention, 0.0, 0.0, (1 - share) / projection))
        for _ in range(20):
            assert extreme.predict(draw_actions(rng)) > 0
        actions = table(*[Action.REFRESH, *[Action.BROADCAST] * (STEPS - 1)])
        schedule = Schedule({"Q": np.zeros(actions.shape)}, actions=actions)
        assert extreme.predict(schedule) == pytest.approx(extreme.step_seconds)


def test_what_is_not_modelled_is_refused_beside_actions(whole: LatencyModel) -> None:
    schedule = alternating(Action.MEMORY, Q)
    with pytest.raises(UsageError, match="match_radius"):
        whole.predict(replace(schedule, match_radius=1))
    with pytest.raises(UsageError, match="4x4x4"):
        whole.predict(replace(schedule, stride=(4, 4, 4)))
    with pytest.raises(UsageError, match="4x4x4"):
        whole.action_seconds(Action.REFRESH, Q, 0.0, "4x4x4")
    assert whole.predict(replace(alternating(Action.BROADCAST), stride=(4, 4, 4))) < whole.baseline_seconds
    assert whole.action_seconds(Action.REFRESH, 0.0, 0.0, "4x4x4").shape == (BLOCKS,)


def test_steps_without_their_blocks_by_hand(whole: LatencyModel) -> None:
    scaled = replace(whole, coefficients=CORRECTED, reused_share=0.1)
    left_out = np.arange(STEPS) % 3 == 2
    nothing = Schedule({"Q": np.zeros((BLOCKS, STEPS))}, partner=Partner.planned(left_out))
    assert scaled.predict(nothing) == pytest.approx(scaled.step_seconds * (STEPS - 4 + 4 * 0.1))
    actions = table(Action.REFRESH, Action.BROADCAST, Action.REDUCE)
    both = Schedule({"Q": np.zeros((BLOCKS, STEPS))}, actions=actions, partner=Partner.planned(left_out))
    spared = 4 * (BLOCKS * 1.2 * FULL + 0.8 * sum(whole.sites.projections))
    assert scaled.predict(both) == pytest.approx(scaled.predict(nothing) - spared)
    assert scaled.left_out(both) == pytest.approx(4 / STEPS * 0.9)
    with pytest.raises(UsageError, match="was not measured"):
        whole.predict(nothing)
    again = LatencyModel.from_dict(scaled.to_dict(), BLOCKS, STEPS)
    assert again == scaled
