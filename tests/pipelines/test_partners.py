"""Caches of diffusers as a tuning run meets them: calibrated, timed alone, and planned, on complete tiny pipelines."""

from __future__ import annotations

import numpy as np
import pytest

from asymrnr import Partner, ScheduleError
from tests.pipelines.helpers import left_as_found
from tests.pipelines.tiny_pipelines import build, tiny_entry
from tuner.errors import UsageError
from tuner.latency.alongside import alone
from tuner.opening import open_scratch
from tuner.profile.settings import ProfilerSettings
from tuner.profile.watch import observe_generation
from tuner.quality.metrics import psnr
from tuner.run.runner import Runner
from tuner.search.space import SearchSpace
from tuner.stages import compare as comparing
from tuner.stages.certify import held_out_plan
from tuner.stages.partner import measure_alongside, ready
from tuner.stages.preflight import REUSE_STEPS, time_without_blocks
from tuner.work.caches import magnitude_ratios

NAME, STEPS = "wan-1.3b", 6
SPACE = SearchSpace(strides=("1x2x2",), cache_steps=(2,), rates=(0.0, 0.5))


@pytest.fixture
def runner() -> Runner:
    return Runner(build(NAME), tiny_entry(NAME, STEPS))


def blocks_of(runner: Runner) -> int:
    return len(runner.denoiser.blocks)  # type: ignore[arg-type]


def test_a_cache_is_timed_alone_where_it_leaves_something_out(runner: Runner) -> None:
    partner = Partner("taylorseer", {**Partner.parse("taylorseer:2").settings, "disable_cache_before_step": 2})
    with left_as_found(runner.pipe), open_scratch(runner, SPACE) as ctx:
        found = measure_alongside(ctx, partner, blocks_of(runner))
        assert found.partner == partner
        assert found.computed.tolist() == [True, True, False, True, False, True]
        assert 0 < found.share < 1
        made = len(ctx.instrument.store)
        assert measure_alongside(ctx, partner, blocks_of(runner)) == found
        assert len(ctx.instrument.store) == made
        with pytest.raises(UsageError, match=r"first-block-cache:0\.0 leaves nothing out on wan-1\.3b"):
            measure_alongside(ctx, Partner.parse("first-block-cache:0.0"), blocks_of(runner))


def test_mag_cache_is_calibrated_by_itself(runner: Runner) -> None:
    with left_as_found(runner.pipe), open_scratch(runner, SPACE) as ctx:
        partner = ready(ctx, Partner.parse("mag-cache:0.5"))
        ratios = partner.settings["mag_ratios"]
        assert len(ratios) == STEPS
        assert ratios[0] == 1.0
        assert np.isfinite(ratios).all()
        assert ready(ctx, partner) is partner
        assert magnitude_ratios(runner, ctx.tuning_prompt, ctx.tuning_seed) == pytest.approx(ratios)


def test_steps_without_their_blocks_are_timed(runner: Runner) -> None:
    with left_as_found(runner.pipe), open_scratch(runner, SPACE) as ctx:
        assert 0 < time_without_blocks(ctx, blocks_of(runner)) < 1
        assert REUSE_STEPS <= STEPS


def test_a_planned_cache_is_seen_in_a_pair(runner: Runner) -> None:
    left_out = np.array([0, 1, 0, 1, 1, 0], dtype=bool)
    schedule = alone(Partner.planned(left_out), blocks_of(runner), STEPS)
    with left_as_found(runner.pipe), open_scratch(runner, SPACE) as ctx:
        pair = ctx.instrument.pair("verify", "a cat", 3, schedule)
    np.testing.assert_array_equal(pair.skipped, left_out)
    assert pair.reduced_sites == schedule.planned_sites() == 3 * blocks_of(runner)
    assert pair.mode == "lock-step"


def test_a_profile_says_how_well_outputs_are_extrapolated(runner: Runner) -> None:
    settings = ProfilerSettings(
        strides=("1x2x2",), cache_steps=(2,), rates=(0.5,), total_steps=STEPS, memory_gaps=3, kl_rates=()
    )
    with open_scratch(runner, SPACE) as ctx:
        recorded = runner.generate(ctx.tuning_prompt, 0, record=True).trajectory
    profile, _ = observe_generation(runner, settings, 0, None, lambda *_: None)  # type: ignore[arg-type]
    assert recorded is not None
    found = profile.extrapolation_error
    assert found is not None
    assert found.shape == (STEPS, 3, 4)
    calls, times = len(recorded.outputs) // STEPS, profile.timesteps
    for step, gap, before in ((4, 3, 0), (4, 1, 2), (5, 2, 1)):
        last, first = step - gap, step - gap - before - 1
        now, late, early = ([o.double() for o in recorded.outputs[s * calls :][:calls]] for s in (step, last, first))
        far = (times[step] - times[last]) / (times[last] - times[first])
        wrong = sum(float((b + far * (b - c) - a).square().sum()) for a, b, c in zip(now, late, early, strict=True))
        expected = wrong / sum(float(a.square().sum()) for a in now)
        assert found[step, gap - 1, before] == pytest.approx(expected, rel=1e-3)
    assert np.isnan(found[0]).all()


def test_a_profile_says_how_well_residuals_are_added_again(runner: Runner) -> None:
    """Against schedules that do so, along the plain generation's own latents."""
    settings = ProfilerSettings(
        strides=("1x2x2",), cache_steps=(2,), rates=(0.5,), total_steps=STEPS, memory_gaps=3, kl_rates=()
    )
    with left_as_found(runner.pipe):
        profile, _ = observe_generation(runner, settings, 0, None, lambda *_: None)  # type: ignore[arg-type]
        found, prompt = profile.residual_error, runner.entry.tuning_prompts(1)[0]
        recorded = runner.generate(prompt, 0, record=True).trajectory
        assert recorded is not None
        assert found is not None
        assert found.shape == (STEPS, 3)
        calls = len(recorded.outputs) // STEPS
        for step, gap in ((1, 1), (3, 1), (5, 2), (4, 3)):
            left_out = (step - gap < np.arange(STEPS)) & (np.arange(STEPS) <= step)
            schedule = alone(Partner.planned(left_out, left_out), blocks_of(runner), STEPS)
            errors = runner.generate(prompt, 0, schedule, forced=recorded).forced_error
            assert errors is not None
            of_step = slice(step * calls, (step + 1) * calls)
            energy = np.array([float(output.square().sum()) for output in recorded.outputs[of_step]])
            expected = (errors[of_step] ** 2 * energy).sum() / energy.sum()
            assert found[step, gap - 1] == pytest.approx(expected, rel=1e-3)
    assert np.isnan(found[0]).all()
    assert np.isnan(found[2, 2])


def test_alternatives_are_measured_beside_the_tuned_schedule(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    caches = ("taylorseer:2", "first-block-cache:0.0", "mag-cache:0.1")
    monkeypatch.setattr(comparing, "CACHES", caches)

    def not_mag_cache(_: object, partner: Partner) -> Partner:
        if partner.cache == "mag-cache":
            raise ScheduleError("It knows no such blocks.\nNothing else.")
        return partner

    monkeypatch.setattr(comparing, "ready", not_mag_cache)
    with left_as_found(runner.pipe), open_scratch(runner, SPACE) as ctx:
        blocks = blocks_of(runner)
        left_out = alone(Partner.planned([False, True] * 3), blocks, STEPS)
        tuned = ctx.instrument.pair("certify", *held_out_plan(ctx)[0], left_out)
        found = comparing.compare(ctx, blocks, tuned)
        made = len(ctx.instrument.store)
        assert comparing.compare(ctx, blocks, tuned) == found
        assert len(ctx.instrument.store) == made
    own, taylor, idle, impossible = found
    assert [row.name for row in found] == [comparing.TUNED, *caches]
    assert own.psnr == pytest.approx(psnr(tuned.tuned.video, tuned.plain.video))
    assert own.speedup == tuned.denoise.speedup
    assert taylor.psnr is not None
    assert (idle.psnr, idle.note) == (None, "does nothing here")
    assert impossible.speedup is None
    assert impossible.note == "does not work on wan-1.3b: It knows no such blocks"


def test_alternatives_beyond_the_budget_say_so(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "CACHES", ("taylorseer:2", "taylorseer:3"))
    with open_scratch(runner, SPACE) as ctx:
        ctx.ledger.unit_seconds = 1e-6
        ctx.ledger.charge("verify", 1.0)
        found = comparing.compare(ctx, blocks_of(runner))
    assert [row.note for row in found] == ["not measured: the budget is spent"] * 2
