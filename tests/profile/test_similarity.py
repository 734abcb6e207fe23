from __future__ import annotations

import numpy as np
import torch

from asymrnr.partition import make_partition
from asymrnr.reduction import Match
from tuner.profile.similarity import fill_steps, matched_similarity, standardise


def test_standardised_similarity_clips_the_tails_and_spans_zero_to_one() -> None:
    raw = np.linspace(-3.0, -1.0, 200).reshape(10, 20)
    raw[0, 0], raw[-1, -1] = -100.0, 50.0
    table = standardise(raw)
    low, high = np.percentile(raw, [5, 95])
    assert table.min() == 0.0
    assert table.max() == 1.0
    np.testing.assert_allclose(table, np.clip((raw - low) / (high - low), 0, 1), atol=1e-12)
    assert (table == 1.0).mean() >= 0.05


def test_a_constant_feature_reaches_no_threshold() -> None:
    assert not standardise(np.full((3, 4), -2.0)).any()


def test_similarity_is_the_mean_negative_distance_over_batch_heads_and_sources() -> None:
    features = torch.randn(2, 3, 64, 5, generator=torch.Generator().manual_seed(0))
    partition = make_partition((4, 4, 4), (2, 2, 2), torch.Generator().manual_seed(1))
    x = features.double()
    nearest = torch.cdist(x[:, :, partition.src], x[:, :, partition.dst]).amin(-1)
    assert abs(matched_similarity(Match.of(features, partition)) + float(nearest.mean())) < 1e-5


def test_unsampled_steps_are_interpolated_and_the_ends_held() -> None:
    nan = np.nan
    filled = fill_steps(np.array([[nan, 1.0, nan, 3.0, nan], [2.0, nan, nan, nan, 6.0]]))
    np.testing.assert_allclose(filled, [[1, 1, 2, 3, 3], [2, 3, 4, 5, 6]])
