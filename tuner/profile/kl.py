"""Nearest-neighbour estimate of the Kullback-Leibler divergence between kept tokens and all tokens (equation 2).

The kept tokens are a subset of all tokens, so the estimate taken literally has zero distances everywhere and is minus
infinity. Here a point is excluded from both of its nearest-neighbour searches. The bias grows with the dimension: with
10,000 points and k = 2 a Gaussian against one twice as wide comes out within 10 % in up to 8 dimensions, but against
one shifted by a standard deviation along each of 8 axes a quarter too low. Compare rates and policies on one model, do
not read the values as nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from asymrnr.matching import default_budget
from tuner.profile.pieces import token_pieces

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
    points = _Points.of(torch.cat((x, y.to(x.dtype)), dim=1))
    first = (torch.arange(n + m, device=x.device) < n).expand(len(x), -1)
    inner, outer = _nearest_in(points, _choose(n, samples, generator).to(x.device), [first, ~first], k)
    others = torch.full_like(inner, m / (n - 1), dtype=torch.float64)
    return _estimate(inner, outer, others, x.shape[-1], points.resolution)


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
    points = _Points.of(features.flatten(0, 1))
    (batch, n, dim), device = points.raw.shape, features.device
    floor = points.resolution
    chosen = _choose(n, samples, generator).to(device)
    kept = [torch.zeros(batch, n, dtype=torch.bool, device=device) for _ in sets]
    for mask, index in zip(kept, sets, strict=True):
        mask.scatter_(1, index.flatten(0, 1).long(), True)
    nearest = _nearest_in(points, chosen, [torch.ones_like(kept[0]), *kept], k)
    found = []
    for mask, near in zip(kept, nearest[1:], strict=True):
        inside, size = mask[:, chosen], mask.sum(1, keepdim=True).double()
        back = _estimate(nearest[0], near, (size - inside.double()) / (n - 1), dim, floor)
        there = ((n - 1) / (size - 1)).expand_as(inside)[inside]
        found.append((_estimate(near[inside], nearest[0][inside], there, dim, floor), back))
    return found


@dataclass(frozen=True)
class _Points:
    """Points (batch, n, dim) about their mean, in float32 unless they are float64; converted as they are needed.

    Attributes:
        raw: as they are.
        mean: (batch, 1, dim).
        resolution: the smallest distance that is told from zero.
    """

    raw: torch.Tensor
    mean: torch.Tensor
    resolution: float

    @classmethod
    def of(cls, raw: torch.Tensor) -> _Points:
        raw = raw.detach()
        pieces, n = list(token_pieces(raw)), raw.shape[1]
        mean = torch.stack([_floating(raw[:, piece]).sum(1, keepdim=True) for piece in pieces]).sum(0) / n
        square = sum(float((_floating(raw[:, piece]) - mean).square_().sum()) for piece in pieces)
        return cls(raw, mean, RESOLUTION * (torch.finfo(mean.dtype).eps * square / (n * len(raw))) ** 0.5)

    def __getitem__(self, index: slice | torch.Tensor) -> torch.Tensor:
        """(batch, m, dim) of some of them."""
        return _floating(self.raw[:, index]) - self.mean


def _floating(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _choose(n: int, samples: int | None, generator: torch.Generator | None) -> torch.Tensor:
    """Positions of so many random ones of n points, or of all."""
    return torch.arange(n) if samples is None else torch.randperm(n, generator=generator)[:samples]


def _nearest_in(
    points: _Points, chosen: torch.Tensor, sets: list[torch.Tensor], k: int, budget_bytes: int | None = None
) -> list[torch.Tensor]:
    """Distance of the chosen points to their k-th nearest other point in every set, by brute force.

    Args:
        points: (batch, n, dim).
        chosen: (m,) positions.
        sets: (batch, n) bool each.
        k: which neighbour; every set must hold more than k points.
        budget_bytes: largest piece of the distance matrix; by default a size that suits the device.

    Returns:
        For every set (batch, m) Euclidean distances.
    """
    batch, device = len(points.raw), points.raw.device
    pieces = list(token_pieces(points.raw))
    widest = max(piece.stop - piece.start for piece in pieces)
    rows = max(1, (budget_bytes or default_budget(device)) // (points.mean.element_size() * batch * widest))
    rows = min(rows, len(chosen))
    best = [points.mean.new_full((batch, len(chosen), k), torch.inf) for _ in sets]
    # one piece of memory for all steps: allocated anew each time, it fragments the heap into gigabytes
    squared_memory, there_memory = (points.mean.new_empty(batch * rows * widest) for _ in range(2))
    own = torch.cat([points[chosen[at : at + rows]].square().sum(-1) for at in range(0, len(chosen), rows)], dim=1)
    for piece in pieces:
        x, width = points[piece], piece.stop - piece.start
        norms = x.square().sum(-1)
        outside = [torch.zeros_like(norms).masked_fill_(~mask[:, piece], torch.inf)[:, None] for mask in sets]
        for start in range(0, len(chosen), rows):
            these = chosen[start : start + rows]
            here, shape = slice(start, start + len(these)), (batch, len(these), width)
            squared, there = (each[: math.prod(shape)].view(shape) for each in (squared_memory, there_memory))
            torch.baddbmm(norms[:, None], points[these], x.mT, alpha=-2.0, out=squared)  # but for |q|^2
            squared.masked_fill_(these[:, None] == torch.arange(piece.start, piece.stop, device=device), torch.inf)
            for nearest, added in zip(best, outside, strict=True):
                torch.add(squared, added, out=there)
                least = there.amin(-1, keepdim=True) if k == 1 else _least(there, min(k, width))
                nearest[:, here] = _least(torch.cat([nearest[:, here], least], dim=-1), k)
    return [(nearest[..., -1] + own).clamp(min=0).sqrt() for nearest in best]


def _least(x: torch.Tensor, k: int) -> torch.Tensor:
    """The k smallest along the last axis, ascending."""
    return x.topk(k, dim=-1, largest=False).values
