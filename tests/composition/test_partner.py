"""Schedules that bring a cache of diffusers along: complete tiny pipelines, against the cache enabled by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

import asymrnr
from asymrnr import Action, InterceptionError, Partner, Schedule
from asymrnr.adapters import find_adapter
from asymrnr.install import find_sites
from tests.composition.test_caches import CALLS_PER_STEP, MODELS, STEPS, watched
from tests.pipelines.helpers import latents, left_as_found
from tests.pipelines.tiny_pipelines import build
from tests.runtime.tiny import animatediff, cogvideox, run
from tests.runtime.tiny import build as build_denoiser
from tuner.models import denoisers

LEFT_OUT = np.array([0, 0, 1, 1, 0, 1], dtype=bool)
PLANNED = Partner.planned(LEFT_OUT)
OTHERS = {
    "first-block-cache": Partner.parse("first-block-cache:1e9"),
    "pyramid-attention-broadcast": Partner(
        "pyramid-attention-broadcast",
        {
            **Partner.parse("pyramid-attention-broadcast:2").settings,
            "spatial_attention_timestep_skip_range": [-1, 1001],
            "spatial_attention_block_identifiers": ["transformer_blocks.*attn1"],
        },
    ),
    "taylorseer": Partner(
        "taylorseer", {**Partner.parse("taylorseer:2").settings, "disable_cache_before_step": 2, "use_lite_mode": True}
    ),
}


def blocks_of(pipe: DiffusionPipeline) -> int:
    denoiser = denoisers(pipe)[0]
    return len(find_sites(denoiser, find_adapter(denoiser)))


def nothing(pipe: DiffusionPipeline, partner: Partner | None) -> Schedule:
    return Schedule({"Q": np.zeros((blocks_of(pipe), STEPS))}, partner=partner)


@pytest.mark.parametrize("name", MODELS)
def test_a_planned_cache_leaves_out_its_steps_and_no_others(name: str) -> None:
    pipe = build(name)
    plain, schedule = latents(pipe, name, STEPS), nothing(pipe, PLANNED)
    passes = CALLS_PER_STEP.get(name, 1)
    with left_as_found(pipe), asymrnr.apply(pipe, schedule) as handle:
        first = latents(pipe, name, STEPS)
        summary = handle.summary()
        again = latents(pipe, name, STEPS)
    with watched(pipe, passes) as truth, asymrnr.apply(pipe, schedule):
        latents(pipe, name, STEPS)
    seen = truth.computed
    np.testing.assert_array_equal(seen, np.where(LEFT_OUT, 0, passes) * np.ones_like(seen))
    np.testing.assert_array_equal(summary.skipped, np.where(LEFT_OUT, passes, 0) * np.ones_like(seen))
    assert "3 of 6 steps left out" in str(summary)
    assert not torch.equal(first, plain)
    assert torch.equal(first, again)
    assert torch.equal(latents(pipe, name, STEPS), plain)


@pytest.mark.parametrize("name", MODELS)
def test_residuals_are_those_of_mag_cache(name: str) -> None:
    """MagCache leaves a step out where its ratio is 1 and the error allowed is small."""
    pipe = build(name)
    settings = {"threshold": 0.5, "max_skip_steps": STEPS, "retention_ratio": 0.0, "num_inference_steps": STEPS}
    other = Partner("mag-cache", {**settings, "mag_ratios": np.where(LEFT_OUT, 1.0, 9.0).tolist()})
    with asymrnr.apply(pipe, nothing(pipe, other)):
        expected = latents(pipe, name, STEPS)
    with left_as_found(pipe), asymrnr.apply(pipe, nothing(pipe, Partner.planned(LEFT_OUT, LEFT_OUT))) as handle:
        first = latents(pipe, name, STEPS)
        summary = handle.summary()
        again = latents(pipe, name, STEPS)
    torch.testing.assert_close(first, expected)
    assert torch.equal(first, again)
    np.testing.assert_array_equal(summary.skipped > 0, np.tile(LEFT_OUT, (blocks_of(pipe), 1)))


def test_a_generation_has_extrapolated_and_residual_steps() -> None:
    name = "cogvideox-5b"
    pipe: Any = build(name)
    residual = LEFT_OUT & (np.arange(STEPS) < 4)
    found = {}
    for key, partner in {
        "extrapolated": PLANNED,
        "both": Partner.planned(LEFT_OUT, residual),
        "residual": Partner.planned(LEFT_OUT, LEFT_OUT),
    }.items():
        with asymrnr.apply(pipe, nothing(pipe, partner)):
            found[key] = latents(pipe, name, STEPS)
    assert not torch.equal(found["both"], found["extrapolated"])
    assert not torch.equal(found["both"], found["residual"])


def test_residuals_of_a_u_net_are_refused() -> None:
    model, _ = build_denoiser(animatediff)
    rates = {"Q": np.zeros((len(find_sites(model, find_adapter(model))), 2))}
    with pytest.raises(InterceptionError, match="What the blocks of UNetMotionModel add cannot be added again"):
        asymrnr.apply(model, Schedule(rates, partner=Partner.planned([False, True], [False, True])))
    asymrnr.apply(model, Schedule(rates)).remove()  # the refusal left nothing behind


@pytest.mark.parametrize("cache", OTHERS)
def test_every_cache_does_what_it_does_by_hand(cache: str) -> None:
    name, partner = "cogvideox-5b", OTHERS[cache]
    pipe: Any = build(name)
    plain, schedule = latents(pipe, name, STEPS), nothing(pipe, partner)
    denoiser = denoisers(pipe)[0]
    denoiser.enable_cache(partner.config(lambda: pipe.current_timestep))
    by_hand = latents(pipe, name, STEPS)
    denoiser.disable_cache()
    assert not torch.equal(by_hand, plain)
    with left_as_found(pipe), asymrnr.apply(pipe, schedule) as handle:
        for _ in range(2):
            assert torch.equal(latents(pipe, name, STEPS), by_hand)
        assert handle.summary().skipped.any()
    assert torch.equal(latents(pipe, name, STEPS), plain)


@pytest.mark.parametrize("name", MODELS)
def test_memory_and_broadcasting_go_on_over_steps_that_are_left_out(name: str) -> None:
    pipe = build(name)
    blocks = blocks_of(pipe)
    actions = np.tile([Action.REFRESH, Action.MEMORY, 0, 0, Action.BROADCAST, 0], (blocks, 1))
    rates = {"Q": np.where(actions == Action.MEMORY, 0.5, 0.0)}
    schedule = Schedule(rates, actions=actions, partner=PLANNED)
    with left_as_found(pipe), asymrnr.apply(pipe, schedule) as handle:
        both = latents(pipe, name, STEPS)
        summary = handle.summary()
    passes = CALLS_PER_STEP.get(name, 1)
    for action in (Action.REFRESH, Action.MEMORY, Action.BROADCAST):
        np.testing.assert_array_equal(summary.done[action], passes * (actions == action))
    np.testing.assert_array_equal(summary.skipped > 0, np.tile(LEFT_OUT, (blocks, 1)))
    with asymrnr.apply(pipe, replace(schedule, partner=None)):
        assert not torch.equal(latents(pipe, name, STEPS), both)


def test_a_refresh_that_a_cache_skips_is_made_up_for() -> None:
    pipe = build("cogvideox-5b")
    actions = np.tile([Action.REDUCE, Action.REFRESH, Action.MEMORY] * 2, (blocks_of(pipe), 1))
    rates = {"Q": np.where(actions == Action.MEMORY, 0.5, 0.0)}
    partner = Partner("taylorseer", {**OTHERS["taylorseer"].settings, "use_lite_mode": True})
    with left_as_found(pipe), asymrnr.apply(pipe, Schedule(rates, actions=actions, partner=partner)) as handle:
        latents(pipe, "cogvideox-5b", STEPS)
        summary = handle.summary()
    assert summary.skipped.any()
    assert summary.done[Action.REFRESH].any()


def test_a_cache_beside_another_is_refused() -> None:
    pipe: Any = build("cogvideox-5b")
    denoiser, schedule = denoisers(pipe)[0], nothing(pipe, PLANNED)
    denoiser.enable_cache(Partner.parse("first-block-cache").config(lambda: 0))
    with pytest.raises(InterceptionError, match="A cache is enabled in this CogVideoXTransformer3DModel"):
        asymrnr.apply(pipe, schedule)
    denoiser.disable_cache()
    with left_as_found(pipe):  # the refusal left nothing behind
        asymrnr.apply(pipe, schedule).remove()


def test_a_model_without_caches_is_refused() -> None:
    model, _ = build_denoiser(animatediff)
    rates = {"Q": np.zeros((len(find_sites(model, find_adapter(model))), 2))}
    with pytest.raises(InterceptionError, match="diffusers has no caches for UNetMotionModel"):
        asymrnr.apply(model, Schedule(rates, partner=Partner.parse("first-block-cache")))
    asymrnr.apply(model, Schedule(rates)).remove()  # the refusal left nothing behind


@pytest.mark.parametrize("make", [cogvideox, animatediff])
@pytest.mark.parametrize("as_tuple", [True, False])
def test_steps_that_are_left_out_are_extrapolated_over_time(make: Any, as_tuple: bool) -> None:
    """Against the formula, with unevenly spaced timesteps, one step back and two, whatever the output's form."""
    model: Any
    model, inputs = build_denoiser(make)
    times = (900.0, 850.0, 700.0, 400.0, 150.0)
    left_out = np.array([0, 1, 0, 1, 1], dtype=bool)

    def call(timestep: float) -> torch.Tensor:
        with torch.no_grad():
            return model(**{**inputs, "timestep": torch.tensor([timestep]), "return_dict": not as_tuple})[0]

    plain = [call(time) for time in times]
    blocks = len(find_sites(model, find_adapter(model)))
    schedule = Schedule({"Q": np.zeros((blocks, len(times)))}, partner=Partner.planned(left_out))
    with asymrnr.apply(model, schedule) as handle:
        for _ in range(2):
            found = [call(time) for time in times]
            handle.reset()
    expected = [*plain]
    expected[1] = plain[0]  # nothing lies before it
    for step in (3, 4):
        far = (times[step] - times[2]) / (times[2] - times[0])
        expected[step] = plain[2] + far * (plain[2] - plain[0])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert "forward" not in vars(model)
    assert torch.equal(call(times[1]), plain[1])


def test_guidance_branches_and_batches_are_kept_apart() -> None:
    model: Any
    model, inputs = build_denoiser(cogvideox)
    blocks = len(find_sites(model, find_adapter(model)))
    schedule = Schedule({"Q": np.zeros((blocks, 3))}, partner=Partner.planned([False, False, True]))
    found: dict[str, list[torch.Tensor]] = {"cond": [], "uncond": []}
    with asymrnr.apply(model, schedule):
        for timestep in (900, 800, 700):
            for branch, scale in (("cond", 1.0), ("uncond", 0.5)):
                with model.cache_context(branch):
                    text = inputs["encoder_hidden_states"] * scale
                    found[branch].append(run(model, {**inputs, "encoder_hidden_states": text}, timestep))
    for first, second, third in found.values():
        torch.testing.assert_close(third, 2 * second - first)
    assert not torch.equal(found["cond"][2], found["uncond"][2])


def test_a_denoiser_alone_knows_the_timestep_and_begins_anew_when_told() -> None:
    model: Any
    model, inputs = build_denoiser(cogvideox)
    partner, blocks = OTHERS["pyramid-attention-broadcast"], len(find_sites(model, find_adapter(model)))

    def call(timestep: float) -> torch.Tensor:
        with model.cache_context("cond"):  # which this cache asks for
            return run(model, inputs, timestep)

    plain = [call(timestep) for timestep in (900, 800)]
    with asymrnr.apply(model, Schedule({"Q": np.zeros((blocks, 2))}, partner=partner)) as handle:
        found = [call(timestep) for timestep in (900, 800)]
        assert handle.summary().skipped.any()
        assert torch.equal(found[0], plain[0])
        assert not torch.equal(found[1], plain[1])
        handle.reset()
        assert torch.equal(call(900), plain[0])
