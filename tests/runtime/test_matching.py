from __future__ import annotations

import pytest
import torch

from asymrnr.errors import ScheduleError
from asymrnr.matching import match_chunked, match_tokens
from asymrnr.partition import make_partition
from asymrnr.reduction import Match, Plan, gather_tokens

PARTITION = make_partition((4, 6, 6), (2, 2, 2), torch.Generator().manual_seed(0))


def features(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "dot"])
def test_chunk_size_does_not_matter(metric: str) -> None:
    x = features(2, 3, 144, 8)
    whole = match_chunked(x, PARTITION, metric)  # type: ignore[arg-type]
    for budget in (1, 3000, 9999):
        pieces = match_chunked(x, PARTITION, metric, budget_bytes=budget)  # type: ignore[arg-type]
        assert torch.equal(whole[1], pieces[1])
        torch.testing.assert_close(whole[0], pieces[0])


def test_bfloat16_features_with_a_common_offset_match_as_in_float64() -> None:
    x = (features(1, 2, 144, 16) + 10).bfloat16()
    distance, slot = match_tokens(x, PARTITION)
    assert distance.dtype == torch.float32
    exact = torch.cdist(x.double()[:, :, PARTITION.src], x.double()[:, :, PARTITION.dst]).min(-1)
    assert torch.equal(slot.long(), exact.indices)
    torch.testing.assert_close(distance.double(), exact.values, rtol=1e-5, atol=1e-5)
    half = x[:, :, PARTITION.src].square().sum(-1)[..., None] + x[:, :, PARTITION.dst].square().sum(-1)[:, :, None]
    half = half - 2 * x[:, :, PARTITION.src] @ x[:, :, PARTITION.dst].mT
    assert (half.argmin(-1) != exact.indices).float().mean() > 0.2  # what float32 saves us from


def test_random_matching_is_seeded_and_covers_the_destinations() -> None:
    x = features(2, 2, 144, 8)
    first, second = (match_tokens(x, PARTITION, "random", torch.Generator().manual_seed(9)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert first[1].unique().numel() == PARTITION.dst.numel()


def test_identical_tokens_have_distance_zero() -> None:
    x = features(1, 1, 1, 8).expand(1, 1, 144, 8)
    assert match_tokens(x, PARTITION)[0].max() < 1e-5  # differences of sums of squares, which rounding may leave


def test_wrong_number_of_tokens_is_refused() -> None:
    with pytest.raises(ScheduleError, match="144 tokens"):
        match_tokens(features(1, 1, 143, 8), PARTITION)


def test_rate_out_of_reach_names_the_largest() -> None:
    match = Match.of(features(1, 1, 144, 8), PARTITION)
    with pytest.raises(ScheduleError, match=r"Rate 0\.9 is out of reach.*largest rate is 0\.875"):
        match.plan(0.9)
    plan = match.plan(0.875)
    assert sorted(plan.take[0, 0].tolist()) == sorted(PARTITION.dst.tolist())


def test_rate_zero_keeps_every_token() -> None:
    x = features(1, 2, 144, 8)
    plan = Match.of(x, PARTITION).plan(0.0)
    assert plan.take.shape[-1] == 144
    assert torch.equal(plan.restore(plan.reduce(x)), x)


def test_joint_plan_leaves_the_other_tokens_alone() -> None:
    x = features(1, 2, 5 + 144 + 3, 8)
    plan = Match.of(x[:, :, 5:149], PARTITION).plan(0.5).joint(5, 3)
    assert plan.take.shape[-1] == 5 + 72 + 3
    restored = plan.restore(plan.reduce(x))
    assert torch.equal(restored[:, :, :5], x[:, :, :5])
    assert torch.equal(restored[:, :, 149:], x[:, :, 149:])
    assert torch.equal(plan.reduce(restored), plan.reduce(x))


def test_mean_conserves_the_sum() -> None:
    x = features(1, 2, 144, 8)
    plan = Match.of(x, PARTITION).plan(0.6)
    size = torch.zeros(plan.take.shape).scatter_add_(2, plan.back.long(), torch.ones(1, 2, 144))
    torch.testing.assert_close((plan.reduce_mean(x) * size[..., None]).sum(2), x.sum(2))
    assert plan.reduce_mean(x.bfloat16()).dtype == torch.bfloat16


def test_gather_reads_any_strides_and_has_gradients() -> None:
    x = features(2, 144, 3, 8).transpose(1, 2)
    index = torch.randint(0, 144, (2, 3, 10), generator=torch.Generator().manual_seed(2))
    want = x.gather(2, index[..., None].expand(-1, -1, -1, 8))
    assert torch.equal(gather_tokens(x, index), want)
    leaf = x.clone().requires_grad_()
    Plan(index, index).reduce(leaf).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.sum() == index.numel() * 8
