"""What every reduction rate would do to one attention output, from that full output alone.

With keys and values intact, a dropped query copies the output of its matched destination, so one full output gives the
exact error of every rate. For reduced keys and values, attention is recomputed on a few sampled query rows.
"""

from __future__ import annotations

import numpy as np
import torch

from asymrnr.reduction import Match, gather_tokens, max_rate

SMALLEST = 1e-30


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


def query_error_curve(output: torch.Tensor, match: Match, rates: np.ndarray) -> np.ndarray:
    """Exact squared error of the attention output at every query reduction rate.

    Args:
        output: (batch, heads, video tokens, head dim), the unreduced attention output.
        match: matching of the queries, fresh or from an earlier step of the cache window.
        rates: (R,) shares of tokens to drop.

    Returns:
        (R,) float64, ||O' - O||^2 summed over batch, heads and tokens; inf where the rate is out of reach.
    """
    src, dst = match.partition.src.to(output.device), match.partition.dst.to(output.device)
    copied = gather_tokens(output, dst[match.slot.long()])
    difference = copied.float() - output.index_select(2, src).float()
    squared = difference.square_().sum(-1)  # (batch, heads, n_src)
    in_order = squared.gather(-1, match.order.long()).double().sum((0, 1))  # the most similar, dropped first, are last
    dropped = torch.cat([in_order.flip(0).cumsum(0).flip(0), in_order.new_zeros(1)]).cpu().numpy()
    kept = kept_sources(match, rates)
    return np.where(kept < 0, np.inf, dropped[kept])


class SampledRows:
    """Attention of a few sampled video queries to all keys.

    Attributes:
        output: (batch, heads, rows, head dim) float32, their recomputed unreduced output.
        energy: ||O||^2 of the sampled rows, summed over batch and heads.
    """

    def __init__(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        video: slice,
        rows: torch.Tensor,
        mask: torch.Tensor | None = None,
    ) -> None:
        """Compute the softmax once; scores are scaled by 1 / sqrt(head dim).

        Args:
            query, key, value: (batch, heads, joint tokens, head dim).
            video: where the video tokens lie in the joint sequence.
            rows: (rows,) int64 positions of the sampled queries among the video tokens.
            mask: (batch or 1, heads or 1, queries or 1, keys or 1), boolean where keys are seen, or added to scores.
        """
        rows = rows.to(query.device)
        picked = query[:, :, video].index_select(2, rows).float()
        scores = (key.float() @ picked.mT).mul_(query.shape[-1] ** -0.5)  # (batch, heads, joint tokens, rows)
        if mask is not None:
            seen = mask if mask.shape[2] == 1 else mask[:, :, video].index_select(2, rows)
            seen = seen.mT  # (..., joint tokens, rows)
            scores = scores.masked_fill_(~seen, -torch.inf) if seen.dtype == torch.bool else scores + seen.float()
        self._video = video
        self._weights = torch.softmax(scores, dim=2)
        ones = torch.ones_like(value[..., :1], dtype=torch.float32)
        self._values = torch.cat([value.float(), ones], dim=-1)  # the last column sums the weights
        self.output = self._normalised(self._weights.mT @ self._values)
        self.energy = float(self.output.square().sum())

    @staticmethod
    def _normalised(weighted: torch.Tensor) -> torch.Tensor:
        return weighted[..., :-1] / weighted[..., -1:].clamp(min=SMALLEST)

    def value_errors(self, match: Match, rates: np.ndarray) -> np.ndarray:
        """Squared error of each sampled row at every key and value reduction rate (discard).

        Args:
            match: matching of the values, fresh or from an earlier step of the cache window.
            rates: (R,) shares of tokens to drop, ascending.

        Returns:
            (R, rows) float64, ||O' - O||^2 summed over batch and heads; inf where the rate is out of reach.
        """
        device = self._values.device
        sources = match.partition.src.to(device)[match.order.long()]  # least similar first: kept longest
        source_weights = gather_tokens(self._weights[:, :, self._video], sources)
        source_values = gather_tokens(self._values[:, :, self._video], sources)
        total = self._always_kept(match)
        kept, done = kept_sources(match, rates), 0
        errors = np.full((len(rates), self.output.shape[2]), np.inf)
        for index in reversed(range(len(rates))):
            if kept[index] < 0:
                continue
            if kept[index] == sources.shape[-1]:  # nothing dropped
                errors[index] = 0.0
                continue
            segment = slice(done, int(kept[index]))
            total = total + source_weights[:, :, segment].mT @ source_values[:, :, segment]
            done = int(kept[index])
            errors[index] = (self._normalised(total) - self.output).square().sum((0, 1, 3)).cpu().numpy()
        return errors

    def _always_kept(self, match: Match) -> torch.Tensor:
        """Weighted sum over text and destinations, (batch, heads, rows, head dim + 1)."""
        keep = torch.ones(self._values.shape[2], dtype=torch.bool, device=self._values.device)
        keep[match.partition.src + self._video.start] = False
        index = keep.nonzero().flatten()
        return self._weights.index_select(2, index).mT @ self._values.index_select(2, index)


def sampling_error(errors: np.ndarray) -> float:
    """Relative standard error of the sum over rows, at the highest rate in reach.

    Args:
        errors: (R, rows) from `SampledRows.value_errors`, at least two rows.
    """
    rows = errors[np.isfinite(errors).all(1)][-1]
    return float(rows.std(ddof=1) / np.sqrt(len(rows)) / max(rows.mean(), SMALLEST))
