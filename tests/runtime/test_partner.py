"""Caches as values: what they say, what they refuse, and which steps they leave out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from asymrnr import Partner, Schedule, ScheduleError
from asymrnr.sections import ScheduleSection


@pytest.mark.parametrize(
    ("text", "setting", "value"),
    [
        ("first-block-cache:0.1", "threshold", 0.1),
        ("first-block-cache", "threshold", 0.05),
        ("pyramid-attention-broadcast:3", "spatial_attention_block_skip_range", 3),
        ("faster-cache:4", "spatial_attention_block_skip_range", 4),
        ("taylorseer:2", "cache_interval", 2),
        ("mag-cache:0.12", "threshold", 0.12),
    ],
)
def test_a_cache_is_named_with_a_number(text: str, setting: str, value: float) -> None:
    partner = Partner.parse(text)
    assert partner.settings[setting] == value
    assert Partner.parse(str(partner)) == partner
    if not partner.needs_calibration:
        assert getattr(partner.config(lambda: 0.0), setting) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("teacache", "There is no cache 'teacache'; choose one of first-block-cache"),
        ("", "There is no cache ''"),
        ("first-block-cache:much", "'much' is no threshold of first-block-cache; give a number"),
        ("pyramid-attention-broadcast:2.5", "give a whole number"),
    ],
)
def test_what_is_no_cache_is_refused(text: str, message: str) -> None:
    with pytest.raises(ScheduleError, match=message):
        Partner.parse(text)


def test_settings_that_diffusers_does_not_take_are_refused() -> None:
    with pytest.raises(ScheduleError, match="first-block-cache does not take its settings"):
        Partner("first-block-cache", {"limit": 0.1}).config(lambda: 0.0)
    with pytest.raises(ScheduleError, match="must be numbers, texts and lists"):
        Partner("first-block-cache", {"threshold": float("nan")})
    with pytest.raises(ScheduleError, match="calibrate it first"):
        Partner.parse("mag-cache").config(lambda: 0.0)


def test_the_timestep_is_filled_in() -> None:
    config = Partner.parse("pyramid-attention-broadcast:2").config(lambda: 321.0)
    assert config.current_timestep_callback() == 321.0
    assert config.spatial_attention_timestep_skip_range == (100, 850)


@pytest.mark.parametrize("pattern", ["0101", "011011", "000", "00111110", "0"])
def test_a_planned_cache_leaves_out_what_it_is_told(pattern: str) -> None:
    steps = np.array([int(step) for step in pattern], dtype=bool)
    partner = Partner.planned(steps)
    np.testing.assert_array_equal(partner.left_out(len(steps)), steps)
    schedule = Schedule({"Q": np.zeros((3, len(steps)))}, partner=partner)
    np.testing.assert_array_equal(schedule.reused_steps(), steps)
    assert schedule.planned_sites() == 3 * steps.sum()
    np.testing.assert_array_equal(schedule.attention_of_steps(), ~steps)


def test_a_planned_cache_is_told_where_it_adds_residuals_again() -> None:
    left_out, residual = np.array([0, 1, 0, 1, 1], dtype=bool), np.array([0, 0, 0, 1, 1], dtype=bool)
    partner = Partner.planned(left_out, residual)
    np.testing.assert_array_equal(partner.left_out(5), left_out)
    np.testing.assert_array_equal(partner.residual(5), residual)
    assert not Partner.planned(left_out).residual(5).any()
    assert Partner.planned(left_out, np.zeros(5)) == Partner.planned(left_out)
    schedules = [Schedule({"Q": np.zeros((3, 5))}, partner=one) for one in (partner, Partner.planned(left_out))]
    np.testing.assert_array_equal(schedules[0].residual_steps(), residual)
    assert schedules[0].content_hash() != schedules[1].content_hash()
    kept = json.loads(ScheduleSection.from_schedule(schedules[0]).model_dump_json())
    assert ScheduleSection.model_validate(kept).schedule().content_hash() == schedules[0].content_hash()


def test_only_steps_that_are_left_out_are_residual_ones() -> None:
    for residual in ([1], [], "all", [2.5]):
        with pytest.raises(ScheduleError, match="some of those that it leaves out"):
            Partner("extrapolation", {"num_inference_steps": 4, "left_out": [2, 3], "residual": residual})


def test_the_first_step_cannot_be_left_out() -> None:
    for steps in ([True, False], []):
        with pytest.raises(ScheduleError, match="first step"):
            Partner.planned(steps)


@pytest.mark.parametrize(
    "settings", [{}, {"num_inference_steps": 3}, {"num_inference_steps": 3, "left_out": [3]}, {"left_out": [1]}]
)
def test_an_extrapolation_is_told_its_steps(settings: dict[str, object]) -> None:
    with pytest.raises(ScheduleError, match=r"is told num_inference_steps and left_out"):
        Partner("extrapolation", settings)


def test_caches_of_earlier_releases_go_on_leaving_out_what_they_were_told() -> None:
    """Planned steps were once carried out by MagCache, with ratios of one where a step is left out."""
    settings = {"threshold": 0.5, "max_skip_steps": 6, "retention_ratio": 0.0, "num_inference_steps": 6}
    partner = Partner("mag-cache", {**settings, "mag_ratios": [0.0, 1.0, 1.0, 0.0, 1.0, 0.0]})
    assert partner.left_out(6).tolist() == [False, True, True, False, True, False]


def test_calibrated_ratios_say_what_is_left_out() -> None:
    partner = Partner.parse("mag-cache:0.05").calibrated([1.0, 0.99, 0.99, 0.99, 0.9, 0.99, 1.0, 1.0, 1.0, 1.0])
    # From step 2 on: 1 - 0.99, then that and 1 - 0.98 pass 0.05 only with the third; 0.9 is too much at once.
    assert partner.left_out(10).tolist() == [False, False, True, True, False, True, True, True, False, True]
    assert not Partner.parse("first-block-cache").left_out(10).any()


def test_a_schedule_is_told_by_its_cache_and_keeps_it() -> None:
    rates = {"Q": np.full((2, 4), 0.5)}
    plain, first, second = (
        Schedule(rates, partner=partner)
        for partner in (None, Partner.parse("first-block-cache:0.1"), Partner.planned([False, True, False, True]))
    )
    assert len({s.content_hash() for s in (plain, first, second)}) == 3
    assert plain.content_hash() == Schedule(rates).content_hash()
    for schedule in (plain, first, second):
        kept = json.loads(ScheduleSection.from_schedule(schedule).model_dump_json())
        again = ScheduleSection.model_validate(kept).schedule()
        assert again.partner == schedule.partner
        assert again.content_hash() == schedule.content_hash()


def test_an_artifact_with_an_unknown_cache_is_refused() -> None:
    section = ScheduleSection.from_schedule(Schedule({"Q": np.zeros((1, 2))}, partner=Partner.planned([False, True])))
    document = section.model_dump()
    document["partner"]["cache"] = "teacache"
    with pytest.raises(ValueError, match="There is no cache 'teacache'"):
        ScheduleSection.model_validate(document)
