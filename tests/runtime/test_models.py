"""Every supported denoiser, with tiny random weights."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import FirstBlockCacheConfig, PyramidAttentionBroadcastConfig
from torch import nn

import asymrnr
from asymrnr import AttentionCall, InterceptionError, Schedule
from asymrnr.adapters import find_adapter
from asymrnr.install import find_sites
from tests.runtime.tiny import DENOISERS, RELATIVES, Inputs, build, cogvideox, hunyuan, ltx, mochi, run, wan

Denoiser = Callable[[], tuple[nn.Module, Inputs]]
SITES = {"cogvideox": 2, "mochi": 3, "hunyuan": 4, "wan": 2, "ltx": 2, "allegro": 2, "animatediff": 7}
SITES |= {denoiser.__name__: 2 for denoiser in RELATIVES}


def constant(sites: int, q: float, v: float, steps: int = 1) -> Schedule:
    return Schedule(rates={"Q": np.full((sites, steps), q), "V": np.full((sites, steps), v)})


@pytest.mark.parametrize("denoiser", [*DENOISERS, *RELATIVES], ids=lambda f: f.__name__)
def test_rate_zero_observation_and_removal_are_exact(denoiser: Denoiser) -> None:
    model, inputs = build(denoiser)
    baseline = run(model, inputs)
    calls: list[AttentionCall] = []
    with asymrnr.observe(model, calls.append):
        assert torch.equal(run(model, inputs), baseline)
    sites = SITES[denoiser.__name__]
    assert {c.block for c in calls} == set(range(sites))
    for call in calls:
        tokens = call.video.stop - call.video.start
        assert call.grid[0] * call.grid[1] * call.grid[2] == tokens
        assert call.hidden.shape[:2] == (call.query.shape[0], tokens)
        assert call.output.shape == call.query.shape
    with asymrnr.apply(model, constant(sites, 0, 0)):
        assert torch.equal(run(model, inputs), baseline)
    with asymrnr.apply(model, constant(sites, 0.5, 0.3)) as handle:
        reduced = run(model, inputs)
        assert handle.summary().reduced["Q"].sum() == sites
    assert torch.isfinite(reduced).all()
    assert not torch.equal(reduced, baseline)
    assert torch.equal(run(model, inputs), baseline)


@pytest.mark.parametrize("denoiser", [mochi, hunyuan], ids=lambda f: f.__name__)
def test_padding_text_stays_without_effect(denoiser: Denoiser) -> None:
    model, inputs = build(denoiser)
    hidden = inputs["encoder_attention_mask"] == 0
    changed = {**inputs, "encoder_hidden_states": inputs["encoder_hidden_states"].clone()}
    changed["encoder_hidden_states"][hidden] += 1.0
    if denoiser is mochi:  # its time embedding pools the text with the mask; the attention takes valid tokens only
        torch.testing.assert_close(run(model, inputs), run(model, changed))
    outputs = []
    for version in (inputs, changed):
        with asymrnr.apply(model, constant(SITES[denoiser.__name__], 0.5, 0.3)):
            outputs.append(run(model, version))
    torch.testing.assert_close(*outputs)


def test_mochi_items_are_matched_apart() -> None:
    model, inputs = build(mochi)
    calls: list[AttentionCall] = []
    with asymrnr.observe(model, calls.append):
        run(model, inputs)
    assert [(c.block, c.call, c.query.shape[2]) for c in calls[:4]] == [
        (0, 0, 147),
        (0, 1, 149),
        (1, 0, 147),
        (1, 1, 149),
    ]
    assert not torch.equal(calls[0].hidden, calls[1].hidden)
    schedule = Schedule(rates={"Q": np.full((3, 2), 0.5)}, cache_step=2)
    with asymrnr.apply(model, schedule) as handle:
        run(model, inputs, 900.0)
        run(model, inputs, 800.0)
        assert handle.summary().matches == 3 * 2


def test_sequential_guidance_has_a_matching_per_branch() -> None:
    model, inputs = build(wan)
    schedule = Schedule(rates={"Q": np.full((2, 2), 0.5)}, cache_step=2)
    with asymrnr.apply(model, schedule) as handle:
        for timestep in (900.0, 800.0):
            for name in ("cond", "uncond"):
                with model.cache_context(name):  # type: ignore[operator]
                    run(model, inputs, timestep)
        summary = handle.summary()
        assert summary.matches == 2 * 2
        assert summary.planned["Q"].tolist() == [[2, 2], [2, 2]]
    assert "cache_context" not in vars(model)


@pytest.mark.parametrize("denoiser", [hunyuan, wan, ltx], ids=lambda f: f.__name__)
def test_attention_backends_stay_in_use(denoiser: Denoiser) -> None:
    model, inputs = build(denoiser)
    with asymrnr.apply(model, constant(SITES[denoiser.__name__], 0.5, 0.3)):
        want = run(model, inputs)
        model.set_attention_backend("_native_math")  # type: ignore[operator]
        torch.testing.assert_close(run(model, inputs), want, rtol=1e-4, atol=1e-5)
    backends = [site.processor._attention_backend for site in find_sites(model, find_adapter(model))]
    assert backends == ["_native_math"] * SITES[denoiser.__name__]  # a choice made meanwhile outlives the removal


def test_composes_with_pyramid_attention_broadcast_in_either_order() -> None:
    model, inputs = build(cogvideox)
    times = (700.0, 600.0, 500.0, 400.0)

    def config() -> PyramidAttentionBroadcastConfig:
        return PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2,
            spatial_attention_timestep_skip_range=(0, 1000),
            current_timestep_callback=lambda: 500,
        )

    outputs = []
    for first in ("cache", "schedule"):
        if first == "cache":
            model.enable_cache(config())  # type: ignore[operator]
        with asymrnr.apply(model, constant(2, 0.5, 0.3, steps=4)) as handle:
            if first == "schedule":
                model.enable_cache(config())  # type: ignore[operator]
            outputs.append([run(model, inputs, t) for t in times])
            summary = handle.summary()
            assert 0 < summary.reduced["Q"].sum() < summary.planned["Q"].sum()
        model.disable_cache()  # type: ignore[operator]
    assert all(map(torch.equal, *outputs))


def test_composes_with_first_block_cache() -> None:
    model, inputs = build(cogvideox)
    baseline = run(model, inputs)
    model.enable_cache(FirstBlockCacheConfig(threshold=1e9))  # type: ignore[operator]
    with asymrnr.apply(model, constant(2, 0.5, 0.3, steps=2)) as handle:
        for timestep in (900.0, 800.0):
            with model.cache_context("cond"):  # type: ignore[operator]
                run(model, inputs, timestep)
        assert handle.summary().reduced["Q"].tolist() == [[1, 1], [1, 0]]
    model.disable_cache()  # type: ignore[operator]
    assert torch.equal(run(model, inputs), baseline)


def test_attention_out_of_sight_is_an_error() -> None:
    model, inputs = build(cogvideox)
    block = model.transformer_blocks[1]  # type: ignore[index]
    block.attn1.forward = lambda hidden_states, encoder_hidden_states, **_: (hidden_states, encoder_hidden_states)
    asymrnr.apply(model, constant(2, 0.5, 0.3))
    with pytest.raises(InterceptionError, match=r"1 of 2 blocks .* first that of block 1"):
        run(model, inputs)


def test_two_denoisers_share_steps_but_no_matchings() -> None:
    """As in Wan 2.2, where the second denoiser takes over at low noise."""
    (high, inputs), (low, _) = build(wan), build(wan, seed=1)
    baseline = run(low, inputs, 400.0)
    schedule = Schedule(rates={"Q": np.full((2, 2), 0.5)}, cache_step=2)
    with asymrnr.apply(low, schedule):
        want = run(low, inputs, 400.0)
    with asymrnr.apply(SimpleNamespace(transformer=high, transformer_2=low), schedule) as handle:
        run(high, inputs, 900.0)
        assert torch.equal(run(low, inputs, 400.0), want)
        summary = handle.summary()
        assert (summary.steps_seen, summary.matches) == (2, 4)
        assert summary.reduced["Q"].tolist() == [[1, 1], [1, 1]]
        handle.reset()
        assert torch.equal(run(low, inputs, 300.0), run(low, inputs, 300.0))  # step 0, two calls
        assert handle.summary().steps_seen == 1
    assert torch.equal(run(low, inputs, 400.0), baseline)
