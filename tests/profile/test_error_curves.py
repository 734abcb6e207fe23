"""The curves against really reducing, attending and restoring at every rate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from asymrnr.masks import reduce_mask
from asymrnr.partition import make_partition
from asymrnr.reduction import Match
from tuner.profile.error_curves import SampledRows, query_error_curve, sampling_error
from tuner.profile.sampled import KeptTokens, SampledSources

GRID, TEXT, ALL = (4, 5, 6), 7, 10_000
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
    curve = query_error_curve(full, SampledSources.of(match, RATES, ALL))
    np.testing.assert_allclose(curve[:-1], expected, rtol=1e-4, atol=1e-9)
    assert curve[0] == 0.0  # nothing is copied
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
        expected.append((reduced - full).square().sum((0, 1, 3)).numpy())
    errors = rows.value_errors(KeptTokens.of(match, RATES))
    np.testing.assert_allclose(errors[:-1], expected, rtol=1e-3, atol=1e-9)
    assert (errors[0] == 0.0).all()
    assert (errors[-1] == np.inf).all()


def hides_text(batch: int) -> torch.Tensor:
    """Padded text, of another length in every item, as models hide it."""
    shown = torch.ones(batch, 1, 1, TEXT + 120, dtype=torch.bool)
    for item in range(batch):
        shown[item, ..., 2 + item : TEXT] = False
    return shown


def hides_pairs(batch: int) -> torch.Tensor:
    """Some keys from some queries, by an additive mask with an axis of heads."""
    generator = torch.Generator().manual_seed(5)
    hidden = torch.rand(batch, 3, TEXT + 120, TEXT + 120, generator=generator) < 0.3
    return torch.where(hidden, -1e4, 0.0).double()


@pytest.mark.parametrize("make", [hides_text, hides_pairs])
def test_masks_hide_keys_from_the_sampled_rows(make: Callable[[int], torch.Tensor]) -> None:
    q, k, v = tensors(3)
    mask, match, picked, video = make(2), match_of(v), torch.tensor([3, 50, 119]), slice(TEXT, TEXT + 120)
    rows = SampledRows(q, k, v, video, picked, mask)
    full = attention(q, k, v, mask)[:, :, video][:, :, picked]
    torch.testing.assert_close(rows.output, full.float(), rtol=1e-4, atol=1e-5)
    errors = rows.value_errors(KeptTokens.of(match, RATES))
    for index, rate in enumerate(RATES[:-1]):
        plan = match.plan(rate).joint(TEXT, 0)
        kept = reduce_mask(mask, None, plan, video, uniform=False)
        reduced = attention(q, plan.reduce(k), plan.reduce(v), kept)[:, :, video][:, :, picked]
        expected = (reduced - full).square().sum((0, 1, 3)).numpy()
        np.testing.assert_allclose(errors[index], expected, rtol=1e-3, atol=1e-9)
    unmasked = SampledRows(q, k, v, video, picked)
    assert not torch.allclose(unmasked.output, rows.output, atol=1e-3)


def test_text_may_follow_the_video_and_half_precision_is_accepted() -> None:
    q, k, v = (torch.cat([x[:, :, TEXT:], x[:, :, :TEXT]], dim=2).bfloat16() for x in tensors(2))
    video = slice(0, 120)
    match = Match.of(v[:, :, video], make_partition(GRID, (2, 2, 2), torch.Generator().manual_seed(0)))
    rows = SampledRows(q, k, v, video, torch.arange(10))
    plan = match.plan(0.7).joint(0, TEXT)
    reduced = attention(q.float(), plan.reduce(k).float(), plan.reduce(v).float())[:, :, :10]
    error = float((reduced - rows.output).square().sum())
    assert rows.value_errors(KeptTokens.of(match, np.array([0.7]))).sum() == pytest.approx(error, rel=1e-3)


def test_the_sampling_error_is_that_of_the_sum_over_rows() -> None:
    rng = np.random.default_rng(0)
    population = rng.exponential(size=100_000)
    sums = np.array([rng.choice(population, 64).sum() for _ in range(400)])
    errors = np.stack([np.zeros(64), rng.choice(population, 64), np.full(64, np.inf)])
    assert sampling_error(errors) == pytest.approx(sums.std() / sums.mean(), rel=0.3)
