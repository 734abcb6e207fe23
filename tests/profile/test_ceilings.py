"""What profiling keeps and works with, by allocations, and that measuring in pieces and on samples changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import CogVideoXTransformer3DModel

import asymrnr
from asymrnr.observation import AttentionCall
from asymrnr.partition import Grid
from tests.profile.conftest import STEPS
from tuner.profile.footprint import CallShape, kept_bytes, passing_bytes
from tuner.profile.profile import Profile
from tuner.profile.profiler import Profiler
from tuner.profile.settings import ProfilerSettings
from tuner.run.allocations import allocations

TEXT = 32
SETTINGS = ProfilerSettings(("2x2x2", "1x2x2"), (2, 3), (0.3, 0.6, 0.7), total_steps=4, memory_gaps=2)
SHAPE = CallShape(batch=2, heads=4, head_dim=32, grid=(4, 8, 12), itemsize=4)
PLACES = {"tuner.profile.profiler.SOURCES": 1 << 10, "tuner.profile.profiler.MATCHED_TOKENS": 1 << 13}
PLACES |= {"tuner.profile.changes.FOLLOWED": 1 << 8}


@pytest.fixture(autouse=True)
def _small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of the distance matrix that are little beside these small calls, as they are beside real ones."""
    for name in ("matching.CPU_BUDGET", "matching.LARGEST_SHARE"):
        monkeypatch.setattr(f"asymrnr.{name}", 1 << 16)
    monkeypatch.setattr("tuner.profile.footprint.LARGEST_SHARE", 1 << 16)


def call_of(shape: CallShape, step: int, block: int = 0) -> AttentionCall:
    """A call whose tensors take no memory: all heads and channels look at the same numbers."""
    tokens = math.prod(shape.grid)
    size = (shape.batch, shape.heads, tokens + TEXT, shape.head_dim)
    generator = torch.Generator().manual_seed(step)
    query, key, value, output = (
        torch.randn(1, 1, tokens + TEXT, 1, generator=generator).expand(size) for _ in range(4)
    )
    hidden = torch.randn(1, tokens, 1, generator=generator).expand(shape.batch, tokens, shape.heads * shape.head_dim)
    return AttentionCall(
        block=block,
        step=step,
        timestep=900.0 - step,
        branch="",
        call=0,
        grid=shape.grid,
        video=slice(0, tokens),
        query=query,
        key=key,
        value=value,
        output=output,
        hidden=hidden,
    )


def measured(shape: CallShape, settings: ProfilerSettings, blocks: int = 2) -> tuple[float, float]:
    """Bytes kept of one block at the most, and used while one call is looked at."""
    profiler, kept, most, passing = Profiler(settings), 0, 0, 0
    for step in range(settings.total_steps):
        calls = [call_of(shape, step, block) for block in range(blocks)]
        for call in calls:
            with allocations() as found:
                profiler(call)
            kept, passing = kept + found.kept, max(passing, found.peak)
        most = max(most, kept)
    return most / blocks, passing


def larger(grid: Grid = (8, 8, 12), **changes: int) -> CallShape:
    return replace(SHAPE, grid=grid, **changes)


@pytest.mark.parametrize("limits", [{}, PLACES], ids=["all", "samples"])
@pytest.mark.parametrize("shape", [SHAPE, larger(), larger(heads=8)], ids=["small", "longer", "more heads"])
def test_what_is_kept_and_used_is_what_is_forecast(
    shape: CallShape, limits: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, limit in limits.items():
        monkeypatch.setattr(name, limit)
        monkeypatch.setattr(f"tuner.profile.footprint.{name.rsplit('.')[-1]}", limit)
    kept, passing = measured(shape, SETTINGS)
    assert kept == pytest.approx(kept_bytes(shape, SETTINGS), rel=0.1)
    assert passing <= passing_bytes(shape)


def test_longer_videos_keep_no_more_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in PLACES.items():
        monkeypatch.setattr(name, limit)
    one, two = (measured(larger((frames, 8, 12)), SETTINGS, blocks=1)[0] for frames in (16, 32))
    assert two < 1.2 * one  # the destinations, whose persistence is followed, grow


def test_pieces_bound_what_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, settings = larger((16, 8, 12)), replace(SETTINGS, total_steps=1, memory_gaps=0)
    _, whole = measured(shape, settings, blocks=1)
    for module in ("pieces", "footprint"):
        monkeypatch.setattr(f"tuner.profile.{module}.PIECE_BYTES", 1 << 16)
    _, small = measured(shape, settings, blocks=1)
    assert small < whole / 1.5


def profiled(transformer: CogVideoXTransformer3DModel, denoise: Callable[[], None]) -> Profile:
    settings = replace(SETTINGS, rates=(0.3, 0.6, 0.75), total_steps=STEPS, v_rows=96, kl_every=3, v_every=1)
    profiler = Profiler(settings)
    with asymrnr.observe(transformer, profiler):
        denoise()
    return profiler.finish(model="tiny", workload={"steps": STEPS}, prompt="p", generation_seed=1)


def test_profiles_do_not_depend_on_the_pieces(
    transformer: CogVideoXTransformer3DModel, denoise: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = profiled(transformer, denoise).to_record()[1]
    monkeypatch.setattr("tuner.profile.pieces.PIECE_BYTES", 1)
    pieces = profiled(transformer, denoise).to_record()[1]
    assert whole.keys() == pieces.keys()
    for name, array in whole.items():
        np.testing.assert_allclose(pieces[name], array, rtol=2e-3, atol=1e-6, err_msg=name)


def test_samples_tell_nearly_what_all_sources_and_heads_do(
    transformer: CogVideoXTransformer3DModel, denoise: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    every = profiled(transformer, denoise)
    monkeypatch.setattr("tuner.profile.profiler.SOURCES", 160)  # of 336
    monkeypatch.setattr("tuner.profile.profiler.MATCHED_TOKENS", 200)  # one head of two
    some = profiled(transformer, denoise)
    for key, curve in every.q_error.items():
        np.testing.assert_allclose(some.q_error[key][..., 1:].mean(), curve[..., 1:].mean(), rtol=0.1)
        np.testing.assert_allclose(some.v_error[key][..., 1:].mean(), every.v_error[key][..., 1:].mean(), rtol=0.4)
        assert not np.array_equal(some.q_error[key], curve)
