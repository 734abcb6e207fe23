from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from asymrnr.partition import make_partition
from asymrnr.reduction import Match, add_tokens
from tuner.errors import UsageError
from tuner.latency.masking import Masking
from tuner.latency.residual import jobs
from tuner.latency.surface import LatencySurface, timed_heads
from tuner.run.allocations import allocations


@pytest.fixture(scope="module")
def surface() -> LatencySurface:
    return LatencySurface.measure(
        heads=2,
        head_dim=16,
        grid=(4, 8, 8),
        text_tokens=9,
        batch=2,
        strides=["2x2x2", "3x2x2"],
        dtype=torch.float32,
        device="cpu",
        budget_seconds=0.05,
    )


def test_every_time_is_positive_and_attention_grows_with_both_lengths(surface: LatencySurface) -> None:
    table = np.array(surface.attention)
    assert table.min() > 0
    assert (np.diff(table, axis=0) >= 0).all()
    assert (np.diff(table, axis=1) >= 0).all()
    assert set(surface.matching) == {"2x2x2", "3x2x2"}
    assert min(*surface.matching.values(), *surface.gather_q, *surface.gather_v) > 0
    assert surface.residual is not None
    assert surface.residual.rates == surface.gather_rates
    assert len(surface.residual.times) == 9
    assert min(surface.residual.times) > 0


def test_interpolation_hits_the_points_and_is_monotone_between(surface: LatencySurface) -> None:
    exact = replace(surface, shares=(0.1, 0.5, 1.0), attention=((1.0, 2.0, 4.0), (2.0, 5.0, 9.0), (4.0, 9.0, 20.0)))
    assert float(exact.attention_seconds(0.0, 0.0)) == pytest.approx(20.0)
    assert float(exact.attention_seconds(0.5, 0.9)) == pytest.approx(2.0)
    assert float(exact.attention_seconds(0.25, 0.0)) == pytest.approx((9 + 20) / 2)
    rates = np.linspace(0, 0.95, 40)
    seconds = exact.attention_seconds(rates[:, None], rates)
    assert seconds.shape == (40, 40)
    assert (np.diff(seconds, axis=0) <= 1e-12).all()
    assert (np.diff(seconds, axis=1) <= 1e-12).all()
    assert seconds.min() > 0


def test_nothing_is_gathered_at_rate_zero(surface: LatencySurface) -> None:
    assert surface.gather_seconds("Q", 0.0) == 0
    assert surface.gather_seconds("V", np.array([0.0, 0.5]))[1] > 0
    zero = np.array([0.0, 0.5])
    for seconds in (surface.memory.learning_seconds, surface.memory.adding_seconds):
        assert seconds(zero, 0 * zero)[0] == 0
        assert (seconds(zero, zero)[1], seconds(0 * zero, zero)[1]) == (surface.memory.everywhere,) * 2


def test_what_is_learnt_and_added_is_what_the_runtime_learns_and_adds() -> None:
    """The pieces timed put together: copying and adding gives the full output where Q alone is reduced."""
    full = torch.randn(1, 2, 4 * 4 * 4 + 3, 8)
    match = Match.of(full[:, :, :64], make_partition((4, 4, 4), (2, 2, 2), torch.Generator().manual_seed(0)))
    plan = match.plan(0.5).joint(0, 3)
    copied = plan.restore(plan.reduce(full))
    found = jobs(match, [0.5], full, copied)
    rest = found["learn", 0.5]()
    assert isinstance(rest, torch.Tensor)
    assert rest.shape == (1, 2, 32, 8)
    add_tokens(copied, plan.dropped(), rest)
    torch.testing.assert_close(copied, full)
    assert found["everywhere"]().shape == full.shape  # type: ignore[attr-defined]
    found["add", 0.5]()
    torch.testing.assert_close(copied, full)  # on tensors of its own


def test_a_surface_survives_json(surface: LatencySurface) -> None:
    assert LatencySurface.from_dict(json.loads(json.dumps(surface.to_dict()))) == surface


def test_a_surface_kept_before_memory_was_timed_is_read(surface: LatencySurface) -> None:
    values = json.loads(json.dumps(surface.to_dict()))
    del values["residual"]
    found = LatencySurface.from_dict(values)
    assert found == replace(surface, residual=None)
    assert found.memory.adding_seconds(np.array(0.5), np.array(0.0)) == found.gather_seconds("Q", 0.5)


def test_damage_and_unknown_strides_are_one_sentence(surface: LatencySurface) -> None:
    with pytest.raises(UsageError, match="damaged"):
        LatencySurface.from_dict({})
    with pytest.raises(UsageError, match="damaged"):
        LatencySurface.from_dict({**surface.to_dict(), "attention": [[1.0]]})
    for residual in ([], {}, {"rates": [0.1]}, {**asdict(surface.memory), "add_q": [1.0]}):
        with pytest.raises(UsageError, match="damaged"):
            LatencySurface.from_dict({**surface.to_dict(), "residual": residual})
    with pytest.raises(UsageError, match="9x9x9"):
        surface.matching_seconds("9x9x9")


@pytest.mark.parametrize("mask", [None, Masking((2, 1, 1, 2080), "bool", (3, 5), True)], ids=["unmasked", "masked"])
def test_large_calls_are_timed_on_some_heads_within_the_ceiling(
    mask: Masking | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ceiling = 24 << 20
    monkeypatch.setattr("tuner.latency.surface.TIMING_BYTES", ceiling)
    monkeypatch.setattr("tuner.latency.surface.MATCHING_BYTES", ceiling // 4)
    monkeypatch.setattr("tuner.latency.masking.LARGE", ceiling // 8)
    seen: list[int] = []
    original = torch.nn.functional.scaled_dot_product_attention

    def attend(query: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        seen.append(query.shape[1])
        return original(query, *rest)

    monkeypatch.setattr("tuner.latency.surface.F.scaled_dot_product_attention", attend)
    with allocations() as found:
        LatencySurface.measure(8, 32, (8, 16, 16), 32, 2, ["2x2x2"], torch.float32, "cpu", 0.01, mask)
    assert set(seen) == {timed_heads(8, 2 * 2080 * 32 * 4)} == {3}
    assert found.peak <= ceiling


def test_seconds_are_those_of_all_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.latency.surface._interleaved_medians", lambda jobs, *_: dict.fromkeys(jobs, 1.0))
    monkeypatch.setattr("tuner.latency.surface.timed_heads", lambda *_: 2)
    surface = LatencySurface.measure(8, 4, (2, 4, 4), 0, 1, ["2x2x2"], torch.float32, "cpu")
    assert surface.attention[-1][-1] == surface.matching["2x2x2"] == surface.gather_q[0] == 4.0


@pytest.mark.parametrize(
    ("batch", "heads", "tokens", "dim", "all_of"),
    [(1, 24, 119_056, 128, False), (2, 48, 17_776, 64, False), (1, 2, 3_088, 64, True)],
    ids=["HunyuanVideo at 720 lines", "CogVideoX-5B", "embedded"],
)
def test_some_heads_of_real_models_fit(batch: int, heads: int, tokens: int, dim: int, all_of: bool) -> None:
    timed = timed_heads(heads, batch * tokens * dim * 2)
    assert 1 <= timed <= heads
    assert (timed == heads) == all_of
