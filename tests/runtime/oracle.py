"""A slow reference of the method, written from the paper in numpy: one token at a time, in float64."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch


def partition(
    grid: tuple[int, int, int], stride: tuple[int, int, int], seed: int, coverage: str
) -> tuple[list[int], list[int]]:
    """Destinations in chunk order and sources, from the documented draws: three uniforms per chunk, then offsets."""
    stride = tuple(min(s, g) for s, g in zip(stride, grid, strict=True))
    counts = [math.ceil(g / s) if coverage == "full" else g // s for g, s in zip(grid, stride, strict=True)]
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(math.prod(counts), 3, generator=generator, dtype=torch.float64).numpy()
    offsets = []
    for axis in range(3):
        remainder = grid[axis] - counts[axis] * stride[axis]
        offsets.append(int(torch.randint(0, remainder + 1, (1,), generator=generator)) if remainder > 0 else 0)
    destinations = []
    for chunk, draw in zip(itertools.product(*map(range, counts)), draws, strict=True):
        place = []
        for axis in range(3):
            start = offsets[axis] + chunk[axis] * stride[axis]
            inside = [p for p in range(start, start + stride[axis]) if p < grid[axis]]
            place.append(inside[int(draw[axis] * len(inside))])
        destinations.append((place[0] * grid[1] + place[1]) * grid[2] + place[2])
    return destinations, [token for token in range(math.prod(grid)) if token not in destinations]


def distance(source: np.ndarray, destination: np.ndarray, metric: str) -> float:
    if metric == "euclidean":
        return float(np.sqrt(((source - destination) ** 2).sum()))
    if metric == "dot":
        return -float(source @ destination)
    return -float(source @ destination / np.linalg.norm(source) / np.linalg.norm(destination))


def reduce(
    features: np.ndarray, destinations: list[int], sources: list[int], rate: float, metric: str
) -> tuple[list[int], dict[int, int]]:
    """Tokens kept, ascending, and for every token dropped the destination that stands in for it."""
    matched = {}
    for s in sources:
        options = [distance(features[s], features[d], metric) for d in destinations]
        nearest = int(np.argmin(options))
        matched[s] = (options[nearest], destinations[nearest])
    keep = int(len(features) * (1 - rate))
    by_similarity = sorted(sources, key=lambda s: matched[s][0])  # most similar first
    dropped = by_similarity[: len(features) - keep]
    kept = [token for token in range(len(features)) if token not in dropped]
    return kept, {token: matched[token][1] for token in dropped}


def attention(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    video: slice,
    partition_q: tuple[list[int], list[int]],
    partition_v: tuple[list[int], list[int]],
    rate_q: float,
    rate_v: float,
    reduction: str = "discard",
    metric: str = "euclidean",
    hidden_keys: np.ndarray | None = None,
) -> np.ndarray:
    """AsymRnR attention of one head (equation 4).

    Args:
        query, key, value: (tokens, head dim), text and video.
        video: where the video tokens are.
        partition_q, partition_v: destinations and sources among the video tokens.
        rate_q, rate_v: reduction rates.
        reduction: "discard" or "mean" of keys and values.
        metric: of the matching.
        hidden_keys: (tokens,) bool, keys that the mask hides.
    """
    tokens = range(len(query))
    video_tokens = list(tokens)[video]
    kept_q, back_q = reduce(query[video], *partition_q, rate_q, metric) if rate_q else (range(len(video_tokens)), {})
    kept_v, back_v = reduce(value[video], *partition_v, rate_v, metric) if rate_v else (range(len(video_tokens)), {})
    text = [t for t in tokens if t not in video_tokens]
    keys, values = [], []
    for t in [*text, *(video_tokens[i] for i in kept_v)]:
        if hidden_keys is not None and hidden_keys[t]:
            continue
        group = [t]
        if reduction == "mean":
            group += [video_tokens[i] for i, d in back_v.items() if video_tokens[d] == t]
        keys.append(np.mean([key[g] for g in group], axis=0))
        values.append(np.mean([value[g] for g in group], axis=0))
    output = np.full(query.shape, np.nan)
    for t in [*text, *(video_tokens[i] for i in kept_q)]:
        scores = np.array([query[t] @ k for k in keys]) / math.sqrt(query.shape[1])
        weights = np.exp(scores - scores.max())
        output[t] = (weights / weights.sum()) @ np.array(values)
    for dropped, destination in back_q.items():
        output[video_tokens[dropped]] = output[video_tokens[destination]]
    return output


def chunk_of(
    token: int, grid: tuple[int, int, int], stride: tuple[int, int, int], offsets: list[int], counts: list[int]
) -> list[int]:
    """Chunk along each axis; tokens outside all chunks count to the nearest."""
    place = [token // (grid[1] * grid[2]), token // grid[2] % grid[1], token % grid[2]]
    return [min(max((p - o) // s, 0), c - 1) for p, o, s, c in zip(place, offsets, stride, counts, strict=True)]


def nearest_within(
    features: np.ndarray,
    destinations: list[int],
    sources: list[int],
    chunks: list[list[int]],
    radius: int,
    metric: str,
) -> tuple[list[float], list[int]]:
    """Distance and destination index of every source among the destinations at most `radius` chunks away.

    Args:
        features: (tokens, head dim).
        chunks: chunk of every token along each axis.
    """
    distances, slots = [], []
    for s in sources:
        options = {
            slot: distance(features[s], features[d], metric)
            for slot, d in enumerate(destinations)
            if max(abs(a - b) for a, b in zip(chunks[s], chunks[d], strict=True)) <= radius
        }
        slots.append(min(options, key=lambda slot: options[slot]))
        distances.append(options[slots[-1]])
    return distances, slots
