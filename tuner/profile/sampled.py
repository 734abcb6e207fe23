"""What is kept of matchings over a cache window: as much as the errors of later steps are made of, and no more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from asymrnr.reduction import Match, max_rate


def kept_sources(match: Match, rates: np.ndarray) -> np.ndarray:
    """Sources kept at every rate by the int(n * (1 - rate)) rule of `Match.plan`; -1 where the rate is out of reach.

    Args:
        match: the matching.
        rates: (R,) shares of tokens to drop.

    Returns:
        (R,) int64.
    """
    partition = match.partition
    n, n_dst = partition.tokens, partition.dst.numel()
    kept = np.array([max(0, int(n * (1 - rate)) - n_dst) for rate in rates.tolist()])
    return np.where(rates > max_rate(partition) + 1e-9, -1, kept)


@dataclass(frozen=True)
class SampledSources:
    """Some sources of a matching, evenly spaced from the least similar one to the most similar one, or all of them.

    Attributes:
        tokens, sources: of the video, in all.
        kept: (R,) see `kept_sources`.
        ranks: (S,) places in the order of the sources.
        own: (batch, heads, S) int32, their positions among the video tokens.
        other: (batch, heads, S) int32, those of the tokens that they are matched with.
    """

    tokens: int
    sources: int
    kept: np.ndarray
    ranks: np.ndarray
    own: torch.Tensor
    other: torch.Tensor

    @classmethod
    def of(cls, match: Match, rates: np.ndarray, most: int) -> SampledSources:
        """
        Args:
            match: of whatever is reduced.
            rates: (R,) shares of tokens to drop.
            most: sources sampled, over all batch items and heads; at least one of each.
        """
        batch, heads, n_src = match.order.shape
        count = min(max(1, most // (batch * heads)), n_src)
        ranks = ((torch.arange(count) + 0.5) * (n_src / count)).long()
        picked = match.order[..., ranks.to(match.order.device)].long()
        own = match.partition.src[picked].to(torch.int32)
        other = match.partition.dst[match.slot.gather(-1, picked).long()].to(torch.int32)
        return cls(match.partition.tokens, n_src, kept_sources(match, rates), ranks.numpy(), own, other)

    def dropped(self, values: np.ndarray) -> np.ndarray:
        """Sum over all sources dropped at every rate.

        Args:
            values: (S,) of the sampled ones.

        Returns:
            (R,) float64; inf where the rate is out of reach.
        """
        sums = np.full(len(self.kept), np.inf)
        for index in np.flatnonzero(self.kept >= 0):
            chosen = values[self.ranks >= self.kept[index]]
            gone = self.sources - self.kept[index]
            sums[index] = gone * (chosen.mean() if len(chosen) else values[-1])
        return sums


@dataclass(frozen=True)
class KeptTokens:
    """Which video tokens a matching keeps at every rate, in a byte each.

    Attributes:
        destinations: number of tokens that always stay.
        kept: (R,) see `kept_sources`.
        levels: (batch, heads, video tokens) uint8, the number of rates at which a token is kept; 255 of destinations.
    """

    destinations: int
    kept: np.ndarray
    levels: torch.Tensor

    @classmethod
    def of(cls, match: Match, rates: np.ndarray) -> KeptTokens:
        """
        Args:
            match: of whatever is reduced.
            rates: (R,) shares of tokens to drop, at most 254.
        """
        kept, (batch, heads, n_src) = kept_sources(match, rates), match.order.shape
        of_rank = torch.from_numpy((kept[:, None] > np.arange(n_src)).sum(0).astype(np.uint8)).to(match.order.device)
        levels = of_rank.new_full((batch, heads, match.partition.tokens), 255)
        for item in range(batch):  # positions are int64, eight times what is kept
            place = match.partition.src[match.order[item].long()]
            levels[item].scatter_(-1, place, of_rank.expand_as(place))
        return cls(match.partition.dst.numel(), kept, levels)

    def part(self, items: slice, heads: slice) -> KeptTokens:
        """Of some batch items and heads."""
        return KeptTokens(self.destinations, self.kept, self.levels[items, heads])
