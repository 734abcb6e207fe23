"""What dropping tokens does to the distribution of a feature, and how long the tail of its norms is."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from asymrnr.reduction import Match, max_rate
from tuner.profile.kl import kept_divergences
from tuner.profile.pieces import token_pieces

POLICIES = ("matched", "random")
DIRECTIONS = ("kept||all", "all||kept")
TAIL = 0.95


def divergence_name(feature: str, policy: str, rate: float, direction: str) -> str:
    """Key of `Profile.kl`, for example "Q/matched/0.5/kept||all"."""
    return f"{feature}/{policy}/{rate:g}/{direction}"


def norm_tail(features: torch.Tensor) -> float:
    """95th percentile of the tokens' Euclidean norms over their median, mean over batch and heads (paper figure 10).

    Args:
        features: (batch, heads, tokens, head dim).
    """
    x = features.detach().flatten(0, 1)
    norms = torch.cat([x[:, piece].float().norm(dim=-1) for piece in token_pieces(x)], dim=-1)
    return float((norms.quantile(TAIL, dim=-1) / norms.median(dim=-1).values.clamp(min=1e-12)).mean())


def divergences(
    features: torch.Tensor,
    match: Match,
    rates: Sequence[float],
    generator: torch.Generator,
    k: int = 1,
    samples: int | None = None,
) -> tuple[dict[tuple[str, float, str], float], int]:
    """kNN divergences of the tokens kept by matching and of as many random tokens, both directions.

    Args:
        features: (batch, heads, video tokens, head dim).
        match: their matching.
        rates: shares of tokens dropped; the highest one in reach for those out of reach.
        generator: CPU generator of the random tokens and of the sampled ones.
        k, samples: see `kept_divergences`.

    Returns:
        (policy, rate, direction) to nats, and the number of distances that were zero.
    """
    names, sets = [], []
    order = torch.rand(*features.shape[:3], generator=generator).argsort(-1).to(features.device)
    for rate in rates:
        matched = match.plan(min(rate, max_rate(match.partition))).take
        names += [(policy, rate) for policy in POLICIES]
        sets += [matched, order[..., : matched.shape[-1]]]
    found: dict[tuple[str, float, str], float] = {}
    zeros = 0
    for (policy, rate), both in zip(names, kept_divergences(features, sets, k, samples, generator), strict=True):
        for direction, divergence in zip(DIRECTIONS, both, strict=True):
            found[policy, rate, direction] = divergence.value
            zeros += divergence.zeros
    return found, zeros
