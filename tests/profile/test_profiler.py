"""What the profiler predicts is what the runtime does, staleness inside cache windows included."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from diffusers import CogVideoXTransformer3DModel

import asymrnr
from tuner.errors import UsageError
from tuner.profile.profile import Profile
from tuner.profile.profiler import Profiler
from tuner.profile.settings import ProfilerSettings

BLOCKS, STEPS = 2, 6
RATES = (0.3, 0.6, 0.75)
Denoise = Callable[[], None]


def settings(**changes: object) -> ProfilerSettings:
    values = {
        "strides": ("2x2x2", "1x2x3"),
        "cache_steps": (2, 4),
        "rates": RATES,
        "total_steps": STEPS,
        "seed": 3,
        "v_rows": 96,  # all rows: exact
        "v_every": 1,
        "kl_samples": 40,
        "kl_every": 3,
        "persistence_every": 6,
    }
    return ProfilerSettings(**{**values, **changes})  # type: ignore[arg-type]


def profiled(transformer: CogVideoXTransformer3DModel, denoise: Denoise, **changes: object) -> Profile:
    profiler = Profiler(settings(**changes))
    with asymrnr.observe(transformer, profiler):
        denoise()
    return profiler.finish(model="tiny", workload={"steps": STEPS}, prompt="p", generation_seed=1)


def attention_outputs(transformer: CogVideoXTransformer3DModel, denoise: Denoise, block: int) -> list[torch.Tensor]:
    """Attention output of the video tokens at one block, one tensor a step."""
    outputs: list[torch.Tensor] = []
    site = transformer.transformer_blocks[block].attn1
    with site.register_forward_hook(lambda _, __, output: outputs.append(output[0].clone())):
        denoise()
    return outputs


@pytest.mark.parametrize(("stride", "cache_step"), [((2, 2, 2), 2), ((2, 2, 2), 4), ((1, 2, 3), 4)])
@pytest.mark.parametrize("feature", ["Q", "V"])
def test_predicted_errors_are_those_of_the_runtime(
    transformer: CogVideoXTransformer3DModel,
    denoise: Denoise,
    feature: str,
    stride: tuple[int, int, int],
    cache_step: int,
) -> None:
    profile = profiled(transformer, denoise)
    block = BLOCKS - 1  # nothing before it is disturbed
    plain = attention_outputs(transformer, denoise, block)
    curves = (profile.q_error if feature == "Q" else profile.v_error)["x".join(map(str, stride)), cache_step]
    for index, rate in enumerate(RATES, start=1):
        table = np.zeros((BLOCKS, STEPS))
        table[block] = rate
        schedule = asymrnr.Schedule({feature: table}, stride=stride, cache_step=cache_step, seed=3)
        with asymrnr.apply(transformer, schedule):
            reduced = attention_outputs(transformer, denoise, block)
        measured = [float((r - p).square().sum() / p.square().sum()) for r, p in zip(reduced, plain, strict=True)]
        np.testing.assert_allclose(curves[block, :, index], measured, rtol=2e-3)


def test_everything_a_profile_promises_is_there(transformer: CogVideoXTransformer3DModel, denoise: Denoise) -> None:
    profile = profiled(transformer, denoise, rates=(0.3, 0.9))
    assert profile.grid == (4, 4, 6)
    assert (profile.heads, profile.head_dim, profile.text_tokens) == (2, 16, 5)
    np.testing.assert_array_equal(profile.timesteps, 900.0 - 100 * np.arange(STEPS))
    assert set(profile.q_error) == {(s, c) for s in ("2x2x2", "1x2x3") for c in (2, 4)} == set(profile.v_error)
    for curves in (*profile.q_error.values(), *profile.v_error.values()):
        assert curves.shape == (BLOCKS, STEPS, 3)
        assert (curves[..., 0] == 0).all()
        assert np.isfinite(curves[..., 1]).all()
        assert np.isinf(curves[..., 2]).all()  # strides of 8 and 6 tokens
    for feature in "HQKV":
        assert (profile.raw_similarity[feature] < 0).all()
        assert profile.similarity[feature].min() == 0
        assert profile.similarity[feature].max() == 1
        sampled = [profile.norm_tail[feature]]
        for policy in ("matched", "random"):
            for rate in (0.3, 0.5, 0.7):
                sampled += [profile.kl[f"{feature}/{policy}/{rate:g}/{d}"] for d in ("kept||all", "all||kept")]
        for table in sampled:
            assert np.isfinite(table[:, [0]]).all()
            assert not np.isfinite(table[:, [1, 2, 4, 5]]).any()
        assert (profile.norm_tail[feature][:, 0] > 1).all()
    for gap in (1, 2, 3, 5):
        share = profile.persistence[f"Q/{gap}"][:, 0]
        assert ((share >= 0) & (share <= 1)).all()
    assert profile.diagnostics["recomputed_rows"] < 1e-8


def test_values_between_sampled_steps_are_interpolated(
    transformer: CogVideoXTransformer3DModel, denoise: Denoise
) -> None:
    every, some = profiled(transformer, denoise), profiled(transformer, denoise, v_every=2)
    for key, curve in some.v_error.items():
        np.testing.assert_allclose(curve[:, ::2], every.v_error[key][:, ::2], rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(curve[:, 1], (curve[:, 0] + curve[:, 2]) / 2, rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(some.q_error[key], every.q_error[key], rtol=1e-5, atol=1e-9)


def test_sequential_guidance_branches_average_to_the_batched_result(
    transformer: CogVideoXTransformer3DModel,
) -> None:
    generator = torch.Generator().manual_seed(2)
    latents = [torch.randn(2, 4, 4, 8, 12, generator=generator) for _ in range(STEPS)]
    text = torch.randn(2, 5, 8, generator=generator)

    @torch.no_grad()
    def run(batched: bool) -> None:
        for step, latent in enumerate(latents):
            for item in [slice(0, 2)] if batched else [slice(0, 1), slice(1, 2)]:
                time = torch.full((item.stop - item.start,), 900.0 - 100 * step)
                transformer(latent[item], text[item], time, return_dict=False)

    together = profiled(transformer, lambda: run(True))
    apart = profiled(transformer, lambda: run(False))
    for key in together.q_error:
        np.testing.assert_allclose(apart.q_error[key], together.q_error[key], rtol=1e-3, atol=1e-9)
        np.testing.assert_allclose(apart.v_error[key], together.v_error[key], rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(apart.raw_similarity["Q"], together.raw_similarity["Q"], rtol=1e-4)


def test_a_generation_of_another_length_is_refused(transformer: CogVideoXTransformer3DModel, denoise: Denoise) -> None:
    with pytest.raises(UsageError, match="Only 6 of 7"):
        profiled(transformer, denoise, total_steps=7)
    with pytest.raises(UsageError, match="more than the 5 steps"):
        profiled(transformer, denoise, total_steps=5)


def test_progress_is_told_once_a_step(transformer: CogVideoXTransformer3DModel, denoise: Denoise) -> None:
    told: list[tuple[int, int]] = []
    profiler = Profiler(settings(), progress=lambda done, total: told.append((done, total)))
    with asymrnr.observe(transformer, profiler):
        denoise()
    assert told == [(step + 1, STEPS) for step in range(STEPS)]


def test_impossible_settings_are_refused() -> None:
    for changes in (
        {"strides": ()},
        {"cache_steps": (0,)},
        {"rates": (1.0,)},
        {"strides": ("2x2",)},
        {"persistence_every": 5},
    ):
        with pytest.raises(UsageError):
            settings(**changes)
