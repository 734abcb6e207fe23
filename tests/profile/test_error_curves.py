"""The curves against really reducing, attending and restoring at every rate."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from asymrnr.partition import make_partition
from asymrnr.reduction import Match
from tuner.profile.error_curves import SampledRows, query_error_curve

GRID, TEXT = (4, 5, 6), 7
RATES = np.array([0.0, 0.2, 0.45, 0.7, 0.8, 0.95])
attention = torch.nn.functional.scaled_dot_product_attention


def tensors(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, 3, TEXT + 120, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    return q * 2, k, v


def match_of(features: torch.Tensor, seed: int = 0) -> Match:
    return Match.of(features[:, :, TEXT:], make_partition(GRID, (2, 2, 2), torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("stale", [False, True])
def test_query_curve_is_the_error_of_reducing_and_restoring(stale: bool) -> None:
    q, k, v = tensors(0)
    match = match_of(tensors(1)[0] if stale else q)
    full = attention(q, k, v)[:, :, TEXT:]
    expected = []
    for rate in RATES[:-1]:
        plan = match.plan(rate).joint(TEXT, 0)
        reduced = plan.restore(attention(plan.reduce(q), k, v))[:, :, TEXT:]
        expected.append(float((reduced - full).square().sum()))
    curve = query_error_curve(full, match, RATES)
    np.testing.assert_allclose(curve[:-1], expected, rtol=1e-4)
    assert curve[0] == 0.0
    assert curve[-1] == np.inf  # beyond 1 - n_dst / n


@pytest.mark.parametrize("stale", [False, True])
def test_value_curve_is_the_error_of_the_sampled_rows(stale: bool) -> None:
    q, k, v = tensors(0)
    match = match_of(tensors(1)[2] if stale else v)
    picked = torch.tensor([3, 50, 119])
    rows = SampledRows(q, k, v, slice(TEXT, TEXT + 120), picked)
    full = attention(q, k, v)[:, :, TEXT:][:, :, picked]
    torch.testing.assert_close(rows.output, full.float(), rtol=1e-4, atol=1e-5)
    assert rows.energy == pytest.approx(float(full.square().sum()), rel=1e-5)
    expected = []
    for rate in RATES[:-1]:
        plan = match.plan(rate).joint(TEXT, 0)
        reduced = attention(q, plan.reduce(k), plan.reduce(v))[:, :, TEXT:][:, :, picked]
        expected.append(float((reduced - full).square().sum()))
    curve = rows.value_error_curve(match, RATES)
    np.testing.assert_allclose(curve[:-1], expected, rtol=1e-3, atol=1e-9)
    assert curve[0] == 0.0
    assert curve[-1] == np.inf


def test_text_may_follow_the_video_and_half_precision_is_accepted() -> None:
    q, k, v = (torch.cat([x[:, :, TEXT:], x[:, :, :TEXT]], dim=2).bfloat16() for x in tensors(2))
    video = slice(0, 120)
    match = Match.of(v[:, :, video], make_partition(GRID, (2, 2, 2), torch.Generator().manual_seed(0)))
    rows = SampledRows(q, k, v, video, torch.arange(10))
    plan = match.plan(0.7).joint(0, TEXT)
    reduced = attention(q.float(), plan.reduce(k).float(), plan.reduce(v).float())[:, :, :10]
    error = float((reduced - rows.output).square().sum())
    assert rows.value_error_curve(match, np.array([0.7]))[0] == pytest.approx(error, rel=1e-3)
