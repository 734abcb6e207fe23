from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from tuner.profile.kl import _nearest_in, _Points, kept_divergences, knn_divergence


def gaussian(n: int, dim: int, seed: int, mean: float = 0.0, std: float = 1.0) -> torch.Tensor:
    x = torch.randn(1, n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return mean + std * x


def analytic(dim: int, mean: float, std: float) -> float:
    return dim * (np.log(std) + (1 + mean**2) / (2 * std**2) - 0.5)


@pytest.mark.parametrize(
    ("dim", "mean", "std"), [(2, 0.0, 2.0), (4, 0.0, 2.0), (8, 0.0, 2.0), (2, 1.0, 1.0), (2, 0.5, 1.5), (4, 0.5, 1.5)]
)
def test_ten_thousand_points_give_the_analytic_divergence_of_gaussians_within_a_tenth(
    dim: int, mean: float, std: float
) -> None:
    x, y = gaussian(10_000, dim, 0), gaussian(10_000, dim, 1, mean, std)
    estimate = knn_divergence(x, y, k=2)
    assert estimate.zeros == 0
    assert estimate.value == pytest.approx(analytic(dim, mean, std), rel=0.1)


def test_equal_distributions_have_no_divergence() -> None:
    x, y = gaussian(4000, 4, 0), gaussian(4000, 4, 1)
    assert abs(knn_divergence(x, y, k=5).value) < 0.1


def test_twenty_thousand_tokens_of_128_channels_fit_in_a_gibibyte() -> None:
    program = """
import resource, torch
from tuner.profile.kl import kept_divergences
torch.randn(1, 1, 300, 8); kept_divergences(torch.randn(1, 1, 300, 8), [torch.arange(100).view(1, 1, -1)])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tokens = torch.randn(1, 1, 20_000, 128, generator=torch.Generator().manual_seed(0))
kept_divergences(tokens, [torch.arange(0, 20_000, 2).view(1, 1, -1)])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 2**30  # Linux counts in kibibytes


@pytest.mark.parametrize("k", [1, 4])
def test_both_directions_agree_with_kd_trees(k: int) -> None:
    tokens = gaussian(500, 6, 3)[:, None]  # one head
    kept = torch.randperm(500, generator=torch.Generator().manual_seed(4))[:180].view(1, 1, -1)
    points, chosen = tokens[0, 0].numpy(), kept[0, 0].numpy()
    subset, inside = points[chosen], np.isin(np.arange(500), chosen)
    whole, part = cKDTree(points), cKDTree(subset)

    def nearest(tree: cKDTree, x: np.ndarray, itself: np.ndarray) -> np.ndarray:
        distance = tree.query(x, k=k + 1)[0]  # a point that is in the tree finds itself first
        return np.where(itself, distance[:, k], distance[:, k - 1])

    everywhere = np.ones(180, bool)
    inner, outer = nearest(part, subset, everywhere), nearest(whole, subset, everywhere)
    forward = 6 * np.mean(np.log(outer / inner)) + np.log(499 / 179)
    inner, outer = nearest(whole, points, np.ones(500, bool)), nearest(part, points, inside)
    backward = np.mean(6 * np.log(outer / inner) + np.log((180 - inside) / 499))

    [found] = kept_divergences(tokens, [kept], k)
    assert found[0].value == pytest.approx(forward, abs=1e-6)
    assert found[1].value == pytest.approx(backward, abs=1e-6)


def test_dropping_more_lowers_the_papers_direction_and_raises_the_other_on_clustered_tokens() -> None:
    generator = torch.Generator().manual_seed(5)
    centres = torch.randn(64, 8, generator=generator) * 5
    tokens = (centres[:, None] + 0.1 * torch.randn(64, 16, 8, generator=generator)).view(1, 1, 1024, 8)
    order = torch.arange(1024).view(64, 16).T.reshape(-1)  # one of each cluster first
    found = kept_divergences(tokens, [order[:n].view(1, 1, -1) for n in (768, 384, 128)])
    forward, backward = ([pair[i].value for pair in found] for i in range(2))
    assert forward[0] > forward[1] > forward[2]
    assert backward[0] < backward[1] < backward[2]


def test_duplicates_are_floored_and_counted() -> None:
    tokens = gaussian(50, 4, 6)
    tokens[:, 25:] = tokens[:, :25]
    [found] = kept_divergences(tokens[:, None], [torch.arange(25).view(1, 1, -1)])
    assert found[0].zeros == 25  # every kept token has its copy among all tokens
    assert found[1].zeros == 50 + 25
    assert all(np.isfinite(divergence.value) for divergence in found)


def test_blocks_do_not_change_distances_and_subsamples_are_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = gaussian(300, 5, 7), gaussian(200, 5, 8)
    some = torch.rand(1, 300, generator=torch.Generator().manual_seed(9)) < 0.5
    whole = _nearest_in(_Points.of(x), torch.arange(300), [some, ~some], 2)
    blocked = _nearest_in(_Points.of(x), torch.arange(300), [some, ~some], 2, budget_bytes=8 * 300 * 7)
    torch.testing.assert_close(whole, blocked)
    monkeypatch.setattr("tuner.profile.pieces.PIECE_BYTES", 4 * 5 * 17)
    torch.testing.assert_close(whole, _nearest_in(_Points.of(x), torch.arange(300), [some, ~some], 2))

    def sampled(seed: int) -> float:
        return knn_divergence(x, y, 1, 50, torch.Generator().manual_seed(seed)).value

    assert sampled(0) == sampled(0) != sampled(1)
