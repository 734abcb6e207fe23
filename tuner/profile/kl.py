"""Nearest-neighbour estimate of the Kullback-Leibler divergence between kept tokens and all tokens (equation 2).

The kept tokens are a subset of all tokens, so the estimate taken literally has zero distances everywhere and is minus
infinity. Here a point is excluded from both of its nearest-neighbour searches. The bias grows with the dimension: with
10,000 points and k = 2 a Gaussian against one twice as wide comes out within 10 % in up to 8 dimensions, but against
one shifted by a standard deviation along each of 8 axes a quarter too low. Compare rates and policies on one model, do
not read the values as nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from asymrnr.matching import default_budget

RESOLUTION = 4.0  # squared distances cancel; below so many roots of the machine epsilon a distance may be zero


@dataclass(frozen=True)
class Divergence:
    """An estimate averaged over the batch.

    Attributes:
        value: the divergence in nats.
        zeros: number of nearest-neighbour distances that were zero and got floored.
    """

    value: float
    zeros: int


def knn_divergence(
    x: torch.Tensor, y: torch.Tensor, k: int = 1, samples: int | None = None, generator: torch.Generator | None = None
) -> Divergence:
    """Estimate D(P || Q) from independent samples x of P and y of Q.

    Zero distances are raised to the resolution of the distance computation, relative to the spread of all points.

    Args:
        x: (batch, n, dim), floating point; everything is computed in float32 unless it is float64.
        y: (batch, m, dim).
        k: which nearest neighbour to use; more lowers the variance and raises the bias.
        samples: average over so many random points of x only; the searches still see all points.
        generator: CPU generator of that choice.
    """
    n, m = x.shape[1], y.shape[1]
    points = _centred(torch.cat((x, y.to(x.dtype)), dim=1))
    first = (torch.arange(n + m, device=x.device) < n).expand(len(x), -1)
    inner, outer = _nearest_in(points, _choose(n, samples, generator).to(x.device), [first, ~first], k)
    others = torch.full_like(inner, m / (n - 1), dtype=torch.float64)
    return _estimate(inner, outer, others, points.shape[-1], _resolution(points))


def _resolution(x: torch.Tensor) -> float:
    """The smallest distance between points (batch, n, dim) about their mean that is told from zero."""
    return RESOLUTION * float(torch.finfo(x.dtype).eps ** 0.5 * x.square().sum(-1).mean().sqrt())


def _estimate(inner: torch.Tensor, outer: torch.Tensor, others: torch.Tensor, dim: int, floor: float) -> Divergence:
    """Equation 2 from the distances within P (inner) and to Q (outer), and the ratio of the points searched."""
    zeros = int((inner <= floor).sum() + (outer <= floor).sum())
    ratio = (outer.clamp(min=floor) / inner.clamp(min=floor)).double().log()
    return Divergence(float((dim * ratio + others.log()).mean()), zeros)


def kept_divergences(
    features: torch.Tensor,
    sets: Sequence[torch.Tensor],
    k: int = 1,
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> list[tuple[Divergence, Divergence]]:
    """Both directions between sets of kept tokens P' and all tokens P: (D(P' || P), D(P || P')) for each set.

    The first is the paper's and falls as more is dropped on clustered tokens; the second, from every original token to
    its nearest kept one, rises. All sets share one search over the distances of the sampled tokens.

    Args:
        features: (batch, heads, tokens, head dim).
        sets: each (batch, heads, n') integer positions of kept tokens, more than k of them.
        k: which nearest neighbour to use.
        samples: average over so many random tokens only, the first direction over those of them that are kept.
        generator: CPU generator of that choice.
    """
    x = _centred(features.flatten(0, 1))
    batch, n, dim = x.shape
    floor = _resolution(x)
    chosen = _choose(n, samples, generator).to(x.device)
    kept = [torch.zeros(batch, n, dtype=torch.bool, device=x.device) for _ in sets]
    for mask, index in zip(kept, sets, strict=True):
        mask.scatter_(1, index.flatten(0, 1).long(), True)
    nearest = _nearest_in(x, chosen, [torch.ones_like(kept[0]), *kept], k)
    found = []
    for mask, near in zip(kept, nearest[1:], strict=True):
        inside, size = mask[:, chosen], mask.sum(1, keepdim=True).double()
        back = _estimate(nearest[0], near, (size - inside.double()) / (n - 1), dim, floor)
        there = ((n - 1) / (size - 1)).expand_as(inside)[inside]
        found.append((_estimate(near[inside], nearest[0][inside], there, dim, floor), back))
    return found


def _centred(points: torch.Tensor) -> torch.Tensor:
    """Points (batch, n, dim) about their mean, in float32 unless they are float64."""
    points = points.detach() if points.dtype == torch.float64 else points.detach().float()
    return points - points.mean(dim=1, keepdim=True)


def _choose(n: int, samples: int | None, generator: torch.Generator | None) -> torch.Tensor:
    """Positions of so many random ones of n points, or of all."""
    return torch.arange(n) if samples is None else torch.randperm(n, generator=generator)[:samples]


def _nearest_in(
    x: torch.Tensor, chosen: torch.Tensor, sets: list[torch.Tensor], k: int, budget_bytes: int | None = None
) -> list[torch.Tensor]:
    """Distance of the chosen points to their k-th nearest other point in every set, by brute force.

    Args:
        x: (batch, n, dim).
        chosen: (m,) positions.
        sets: (batch, n) bool each.
        k: which neighbour; every set must hold more than k points.
        budget_bytes: largest piece of the distance matrix; by default a size that suits the device.

    Returns:
        For every set (batch, m) Euclidean distances.
    """
    batch, n, _ = x.shape
    rows = max(1, (budget_bytes or default_budget(x.device)) // (x.element_size() * batch * n))
    norms = x.square().sum(-1)
    outside = [torch.zeros_like(norms).masked_fill(~mask, torch.inf)[:, None] for mask in sets]
    found = [norms.new_empty(batch, len(chosen)) for _ in sets]
    # one piece of memory for all steps: allocated anew each time, it fragments the heap into gigabytes
    squared, there = (norms.new_empty(batch, min(rows, len(chosen)), n) for _ in range(2))
    for start in range(0, len(chosen), rows):
        piece = chosen[start : start + rows]
        here, part = slice(start, start + len(piece)), x[:, piece]
        squared, there = squared[:, : len(piece)], there[:, : len(piece)]
        torch.baddbmm(norms[:, None], part, x.mT, alpha=-2.0, out=squared)  # but for |q|^2, equal in a row
        squared[:, torch.arange(len(piece)), piece] = torch.inf
        for distances, added in zip(found, outside, strict=True):
            torch.add(squared, added, out=there)
            nearest = there.amin(-1) if k == 1 else there.topk(k, dim=-1, largest=False).values[..., -1]
            distances[:, here] = (nearest + norms[:, piece]).clamp(min=0).sqrt()
    return found
