"""Nearest-neighbour estimate of the Kullback-Leibler divergence between kept tokens and all tokens (equation 2).

The kept tokens are a subset of all tokens, so the estimate taken literally has zero distances everywhere and is minus
infinity. Here a point is excluded from both of its nearest-neighbour searches. The bias grows with the dimension: with
10,000 points and k = 2 a Gaussian against one twice as wide comes out within 10 % in up to 8 dimensions, but against
one shifted by a standard deviation along each of 8 axes a quarter too low. Compare rates and policies on one model, do
not read the values as nats.
"""

from __future__ import annotations

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
    batch, n, dim = x.shape
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
    floor = RESOLUTION * float(torch.finfo(x.dtype).eps ** 0.5 * x.square().sum(-1).mean().sqrt())
    zeros = int((inner <= floor).sum() + (outer <= floor).sum())
    ratio = (outer.clamp(min=floor) / inner.clamp(min=floor)).double().log()
    others = (y.shape[1] - (skip >= 0).double()) / (n - 1)
    return Divergence(float((dim * ratio + others.log()).mean()), zeros)


def kept_divergences(
    features: torch.Tensor,
    kept: torch.Tensor,
    k: int = 1,
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Divergence, Divergence]:
    """Both directions between kept tokens P' and all tokens P: (D(P' || P), D(P || P')).

    The first is the paper's and falls as more is dropped on clustered tokens; the second, from every original token to
    its nearest kept one, rises.

    Args:
        features: (batch, heads, tokens, head dim).
        kept: (batch, heads, n') integer positions of the kept tokens.
        k, samples, generator: see `knn_divergence`.
    """
    everything = features.detach().flatten(0, 1)
    index = kept.flatten(0, 1).long()
    subset = everything.gather(1, index[..., None].expand(-1, -1, everything.shape[-1]))
    place = torch.full(everything.shape[:2], -1, dtype=torch.long, device=index.device)
    place.scatter_(1, index, torch.arange(index.shape[1], device=index.device).expand_as(index))
    forward = knn_divergence(subset, everything, index, k, samples, generator)
    backward = knn_divergence(everything, subset, place, k, samples, generator)
    return forward, backward
