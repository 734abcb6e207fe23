"""Divergences by policy, and tails of norms."""

from __future__ import annotations

import pytest
import torch

from asymrnr.partition import make_partition
from asymrnr.reduction import Match
from tuner.profile.distribution import DIRECTIONS, POLICIES, divergences, norm_tail
from tuner.profile.kl import kept_divergences


def clustered() -> torch.Tensor:
    """Chunks of 2x2x2 tokens that are nearly equal."""
    generator = torch.Generator().manual_seed(0)
    centres = 5 * torch.randn(1, 2, 4, 4, 4, 8, generator=generator)
    tokens = centres.repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    return (tokens + 0.1 * torch.randn(tokens.shape, generator=generator)).flatten(2, 4)


def test_matching_keeps_closer_to_the_distribution_than_chance() -> None:
    features = clustered()
    match = Match.of(features, make_partition((8, 8, 8), (2, 2, 2), torch.Generator().manual_seed(1)))
    found, zeros = divergences(features, match, (0.5, 0.8), torch.Generator().manual_seed(2))
    [expected] = kept_divergences(features, [match.plan(0.8).take])
    assert zeros == 0
    assert found["matched", 0.8, "kept||all"] == pytest.approx(expected[0].value, rel=1e-5)
    assert found["matched", 0.8, "all||kept"] == pytest.approx(expected[1].value, rel=1e-5)
    assert found["matched", 0.8, "all||kept"] < found["random", 0.8, "all||kept"]


def test_a_rate_out_of_reach_is_taken_down_to_the_highest() -> None:
    features = clustered()
    match = Match.of(features, make_partition((8, 8, 8), (2, 2, 2), torch.Generator().manual_seed(1)))
    found, _ = divergences(features, match, (0.95, 0.875), torch.Generator().manual_seed(2))
    for policy in POLICIES:
        for direction in DIRECTIONS:
            assert found[policy, 0.95, direction] == found[policy, 0.875, direction]


def test_the_tail_is_the_95th_percentile_over_the_median() -> None:
    norms = torch.arange(1, 102, dtype=torch.float32)  # median 51, 95th percentile 96
    features = torch.nn.functional.one_hot(torch.zeros(101, dtype=torch.long), 4) * norms[:, None]
    assert norm_tail(features[None, None]) == pytest.approx(96 / 51)
