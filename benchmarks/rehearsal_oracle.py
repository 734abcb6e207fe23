"""One reduced attention call in numpy, for a few of its rows: what the runtime gave is held against it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

CLOSE = 1e-5  # relative distance of two candidates within which rounding decides


@dataclass(frozen=True)
class Matched:
    """Of one head's features.

    Attributes:
        kept: (tokens,) bool.
        stands_in: (tokens,) the token whose result each one takes.
        sure: (tokens,) bool, whether neither its destination nor whether it is kept is left to rounding.
    """

    kept: np.ndarray
    stands_in: np.ndarray
    sure: np.ndarray


def match(features: np.ndarray, destinations: np.ndarray, sources: np.ndarray, rate: float) -> Matched:
    """Drop the sources nearest to their destinations (paper equation 4).

    Args:
        features: (tokens, head dim).
        destinations, sources: positions.
        rate: share of the tokens to drop.
    """
    x = features.astype(np.float32)
    ends = x[destinations]
    norms = (ends**2).sum(1)
    nearest, least, second = (np.empty(len(sources), dtype) for dtype in (np.int64, np.float64, np.float64))
    for start in range(0, len(sources), 1024):
        part = slice(start, start + 1024)
        these = x[sources[part]]
        squared = norms - 2 * these @ ends.T + (these**2).sum(1)[:, None]
        nearest[part] = squared.argmin(1)
        two = np.partition(squared, 1, axis=1)[:, :2]
        least[part], second[part] = two[:, 0], two[:, 1]
    scale = float((x**2).sum(1).mean())
    drop = len(x) - int(len(x) * (1 - rate))
    order = np.argsort(least, kind="stable")
    border = least[order[drop - 1]]
    kept, stands_in, sure = np.ones(len(x), bool), np.arange(len(x)), np.ones(len(x), bool)
    kept[sources[order[:drop]]] = False
    stands_in[sources[order[:drop]]] = destinations[nearest[order[:drop]]]
    sure[sources] = (np.abs(least - border) > CLOSE * scale) & (second - least > CLOSE * scale)
    return Matched(kept, stands_in, sure)


def attention_rows(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, video: slice, rows: np.ndarray, q: Matched, v: Matched
) -> np.ndarray:
    """Softmax attention of some video rows of one head, in float64.

    Args:
        query, key, value: (joint tokens, head dim).
        video: where the video tokens are.
        rows: positions among the video tokens.
        q, v: what is reduced.
    """
    queries, keys, values = (x.float().numpy() for x in (query, key, value))
    keep = np.ones(len(keys), bool)
    keep[video] = v.kept
    taken = queries[video][q.stands_in[rows]].astype(np.float64)
    scores = taken @ keys[keep].T.astype(np.float64) / np.sqrt(keys.shape[1])
    weights = np.exp(scores - scores.max(1, keepdims=True))
    return (weights / weights.sum(1, keepdims=True)) @ values[keep].astype(np.float64)
