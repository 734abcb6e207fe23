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


def neighbour_distance(
    queries: torch.Tensor, points: torch.Tensor, exclude: torch.Tensor, k: int = 1, budget_bytes: int | None = None
) -> torch.Tensor:
    """Distance to the k-th nearest point, by brute force in blocks of queries.

    Args:
        queries: (batch, m, dim).
        points: (batch, n, dim).
        exclude: (batch, m) int64, index of the point that does not count for each query, or -1.
        k: which neighbour; there must be more than k points.
        budget_bytes: largest piece of the distance matrix; by default a size that suits the device.

    Returns:
        (batch, m) Euclidean distances.
    """
    batch, m, _ = queries.shape
    budget = budget_bytes or default_budget(points.device)
    rows = max(1, budget // (points.element_size() * batch * points.shape[1]))
    norms = points.square().sum(-1)[:, None]
    found = []
    for start in range(0, m, rows):
        part, skip = queries[:, start : start + rows], exclude[:, start : start + rows]
        squared = torch.baddbmm(norms, part, points.mT, alpha=-2.0)  # but for |q|^2, equal in a row
        hit = skip >= 0
        item, row = hit.nonzero(as_tuple=True)
        squared[item, row, skip[hit]] = torch.inf
        nearest = squared.amin(-1) if k == 1 else squared.topk(k, dim=-1, largest=False).values[..., -1]
        found.append((nearest + part.square().sum(-1)).clamp(min=0).sqrt())
    return torch.cat(found, dim=1)


def knn_divergence(
    x: torch.Tensor,
    y: torch.Tensor,
    same: torch.Tensor,
    k: int = 1,
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> Divergence:
    """Estimate D(P || Q) from samples x of P and y of Q that may share points.

    Zero distances are raised to the resolution of the distance computation, relative to the spread of x.

    Args:
        x: (batch, n, dim), floating point; everything is computed in float32 unless it is float64.
        y: (batch, m, dim).
        same: (batch, n) int64, index in y of the point that is x[i] itself, or -1.
        k: which nearest neighbour to use; more lowers the variance and raises the bias.
        samples: average over so many random points of x only; the searches still see all points.
        generator: CPU generator of that choice.
    """
    batch, n, _ = x.shape
    x = x if x.dtype == torch.float64 else x.float()
    centre = x.mean(dim=1, keepdim=True)
    x, y = x - centre, y.to(x.dtype) - centre
    chosen = torch.arange(n)
    if samples is not None and samples < n:
        chosen = torch.randperm(n, generator=generator)[:samples]
    chosen = chosen.to(x.device)
    queries, skip = x[:, chosen], same.to(x.device)[:, chosen]
    inner = neighbour_distance(queries, x, chosen.expand(batch, -1), k)
    outer = neighbour_distance(queries, y, skip, k)
    others = (y.shape[1] - (skip >= 0).double()) / (n - 1)
    return _estimate(inner, outer, others, x)


def _estimate(inner: torch.Tensor, outer: torch.Tensor, others: torch.Tensor, x: torch.Tensor) -> Divergence:
    """Equation 2 from the distances within P (inner) and to Q (outer), and the ratio of the points searched."""
    floor = RESOLUTION * float(torch.finfo(x.dtype).eps ** 0.5 * x.square().sum(-1).mean().sqrt())
    zeros = int((inner <= floor).sum() + (outer <= floor).sum())
    ratio = (outer.clamp(min=floor) / inner.clamp(min=floor)).double().log()
    return Divergence(float((x.shape[-1] * ratio + others.log()).mean()), zeros)


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
    x = features.detach().flatten(0, 1)
    x = x if x.dtype == torch.float64 else x.float()
    x = x - x.mean(dim=1, keepdim=True)
    batch, n, _ = x.shape
    chosen = torch.arange(n) if samples is None else torch.randperm(n, generator=generator)[:samples]
    chosen = chosen.to(x.device)
    kept = [torch.zeros(batch, n, dtype=torch.bool, device=x.device) for _ in sets]
    for mask, index in zip(kept, sets, strict=True):
        mask.scatter_(1, index.flatten(0, 1).long(), True)
    nearest = _nearest_in(x, chosen, [torch.ones_like(kept[0]), *kept], k)
    found = []
    for mask, near in zip(kept, nearest[1:], strict=True):
        inside, size = mask[:, chosen], mask.sum(1, keepdim=True).double()
        back = _estimate(nearest[0], near, (size - inside.double()) / (n - 1), x)
        there = ((n - 1) / (size - 1)).expand_as(inside)[inside]
        found.append((_estimate(near[inside], nearest[0][inside], there, x), back))
    return found


def _nearest_in(x: torch.Tensor, chosen: torch.Tensor, sets: list[torch.Tensor], k: int) -> list[torch.Tensor]:
    """Distance of the chosen points to their k-th nearest other point in every set, (batch, chosen) each.

    Args:
        x: (batch, n, dim).
        chosen: (m,) positions.
        sets: (batch, n) bool each.
    """
    rows = max(1, default_budget(x.device) // (x.element_size() * x.shape[0] * x.shape[1]))
    norms = x.square().sum(-1)[:, None]
    found: list[list[torch.Tensor]] = [[] for _ in sets]
    for piece in chosen.split(rows):
        part = x[:, piece]
        squared = torch.baddbmm(norms, part, x.mT, alpha=-2.0)  # but for |q|^2, equal in a row
        squared[:, torch.arange(len(piece)), piece] = torch.inf
        own = part.square().sum(-1)
        for distances, mask in zip(found, sets, strict=True):
            there = squared.masked_fill(~mask[:, None], torch.inf)
            nearest = there.amin(-1) if k == 1 else there.topk(k, dim=-1, largest=False).values[..., -1]
            distances.append((nearest + own).clamp(min=0).sqrt())
    return [torch.cat(distances, dim=1) for distances in found]
