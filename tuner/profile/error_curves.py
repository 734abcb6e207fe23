"""What every reduction rate would do to one attention output, from that full output alone.

With keys and values intact, a dropped query copies the output of its matched destination, so one full output gives the
error of every rate. For reduced keys and values, attention is recomputed on a few sampled query rows.
"""

from __future__ import annotations

import numpy as np
import torch

from asymrnr.reduction import gather_tokens
from tuner.profile.sampled import KeptTokens, SampledSources

SMALLEST = 1e-30


def query_error_curve(output: torch.Tensor, sampled: SampledSources) -> np.ndarray:
    """Squared error of the attention output at every query reduction rate; exact where all sources are sampled.

    Args:
        output: (batch, heads, video tokens, head dim), the unreduced attention output.
        sampled: of a matching of the queries, fresh or from an earlier step of the cache window.

    Returns:
        (R,) float64, ||O' - O||^2 summed over batch, heads and tokens; inf where the rate is out of reach.
    """
    copied = gather_tokens(output, sampled.other).float()
    squared = copied.sub_(gather_tokens(output, sampled.own)).square_().sum(-1)  # (batch, heads, S)
    return sampled.dropped(squared.double().sum((0, 1)).cpu().numpy())


class SampledRows:
    """Attention of a few sampled video queries to all keys; see `tuner.profile.pieces` for how many heads at a time.

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
        self._weights, self._values = torch.softmax(scores, dim=2), value
        self._video = video
        before, shown, after = (
            self._weighted(self._weights[:, :, part], value[:, :, part])
            for part in (slice(0, video.start), video, slice(video.stop, None))
        )
        self._text = before + after
        self.output = self._normalised(self._text + shown)
        self.energy = float(self.output.square().sum())

    @staticmethod
    def _weighted(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """(batch, heads, rows, head dim + 1), the last column the sum of the weights."""
        return torch.cat([weights.mT @ values.float(), weights.sum(2)[..., None]], dim=-1)

    @staticmethod
    def _normalised(weighted: torch.Tensor) -> torch.Tensor:
        return weighted[..., :-1] / weighted[..., -1:].clamp(min=SMALLEST)

    def value_errors(self, tokens: KeptTokens) -> np.ndarray:
        """Squared error of each sampled row at every key and value reduction rate (discard).

        Args:
            tokens: of a matching of the values, fresh or from an earlier step of the cache window, at ascending rates.

        Returns:
            (R, rows) float64, ||O' - O||^2 summed over batch and heads; inf where the rate is out of reach.
        """
        weights, values = self._weights[:, :, self._video], self._values[:, :, self._video]
        order = tokens.levels.argsort(dim=-1, descending=True, stable=True)  # those kept longest first
        total, done = self._text, 0
        found = torch.full((len(tokens.kept), self.output.shape[2]), torch.inf, device=values.device)
        for index in reversed(np.flatnonzero(tokens.kept >= 0).tolist()):
            until = tokens.destinations + int(tokens.kept[index])
            if until == order.shape[-1]:  # nothing dropped
                found[index] = 0.0
                continue
            segment, done = order[..., done:until], until
            total = total + self._weighted(gather_tokens(weights, segment), gather_tokens(values, segment))
            found[index] = (self._normalised(total) - self.output).square().sum((0, 1, 3))
        return found.double().cpu().numpy()


def sampling_error(errors: np.ndarray) -> float:
    """Relative standard error of the sum over rows, at the highest rate in reach.

    Args:
        errors: (R, rows) from `SampledRows.value_errors`, at least two rows.
    """
    rows = errors[np.isfinite(errors).all(1)][-1]
    return float(rows.std(ddof=1) / np.sqrt(len(rows)) / max(rows.mean(), SMALLEST))
