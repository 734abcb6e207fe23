"""Matching in which every source looks only at the destinations of the chunks around it: cost linear in the tokens.

An option beyond the paper, whose matching compares every source with every destination.
"""

from __future__ import annotations

import torch

from asymrnr.matching import centre_of, check_features, comparable, default_budget, take_float
from asymrnr.partition import Grid, Partition, chunk_counts
from asymrnr.schedule import Coverage, Metric


def match_local(
    features: torch.Tensor,
    partition: Partition,
    radius: int,
    metric: Metric = "euclidean",
    budget_bytes: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest destination of every source among those at most `radius` chunks away along each axis.

    At most n_src * (2 radius + 1)^3 pairs count; the sources of a chunk share their destinations, so that a few chunks
    at a time make one batched product. A source that "paper" coverage leaves without a chunk belongs to the nearest.

    Args:
        features: (batch, heads, video tokens, head dim), any floating type.
        partition: destinations and sources among the video tokens.
        radius: 0 for the source's own chunk, 1 for its neighbours too, and so on.
        metric: "euclidean", "cosine" or "dot".
        budget_bytes: what the chunks compared at a time may take; by default a size that suits the device.

    Returns:
        distance: (batch, heads, n_src) float32, as `match_tokens` gives it.
        slot: (batch, heads, n_src) int32, index into `partition.dst`; among equally near destinations the first.

    Raises:
        ScheduleError: the features do not cover the partition's grid.
    """
    check_features(features, partition)
    device, n_src = features.device, partition.src.numel()
    destinations = take_float(features, partition.dst.to(device)).flatten(0, 1)
    centre = centre_of(destinations, metric)
    destinations = comparable(destinations, centre, metric)
    items, _, dim = destinations.shape
    sources, occupied = (table.to(device) for table in _sources_by_chunk(partition))
    neighbours, near = (table.to(device) for table in _neighbours(partition, radius))
    scale = -2.0 if metric == "euclidean" else -1.0
    width = sources.shape[1] + neighbours.shape[1]
    row_bytes = 4 * items * (width * dim + sources.shape[1] * neighbours.shape[1])
    rows = max(1, (budget_bytes or default_budget(device)) // row_bytes)
    distance = destinations.new_empty(items, n_src)
    slot = torch.empty(items, n_src, dtype=torch.int32, device=device)
    tokens = partition.src.to(device)
    for start in range(0, len(sources), rows):
        piece = slice(start, start + rows)
        s = comparable(take_float(features, tokens[sources[piece]].flatten()).flatten(0, 1), centre, metric)
        s, d = s.unflatten(1, sources[piece].shape), destinations[:, neighbours[piece]]
        offset = d.square().sum(-1) if metric == "euclidean" else d.new_zeros(d.shape[:-1])
        offset = offset.masked_fill(~near[piece], torch.inf)
        best, choice = (s @ d.mT).mul_(scale).add_(offset[:, :, None]).min(dim=-1)
        if metric == "euclidean":
            best = best.add_(s.square().sum(-1)).clamp_(min=0).sqrt_()
        there = occupied[piece]
        chosen = neighbours[piece].expand(items, -1, -1).gather(-1, choice)
        distance[:, sources[piece][there]] = best[:, there]
        slot[:, sources[piece][there]] = chosen[:, there].to(torch.int32)
    shape = (*features.shape[:2], n_src)
    return distance.view(shape), slot.view(shape)


def compared_pairs(grid: Grid, stride: Grid, coverage: Coverage = "full", radius: int | None = None) -> int:
    """Pairs of a source and a destination that one matching compares, the same for every draw of the destinations.

    Args:
        grid: (frames, height, width) in tokens.
        stride: (t, h, w) chunk size.
        coverage: see `chunk_counts`.
        radius: see `match_local`; None compares every source with every destination.

    Raises:
        ScheduleError: see `chunk_counts`.
    """
    radius = max(grid) if radius is None else radius
    of_tokens = of_destinations = 1
    for size, step, count in zip(grid, stride, chunk_counts(grid, stride, coverage), strict=True):
        near = [min(own + radius, count - 1) - max(own - radius, 0) + 1 for own in range(count)]
        beyond = size - count * min(step, size)  # what the outermost chunks, equal in neighbours, have more or less
        of_tokens *= min(step, size) * sum(near) + beyond * near[-1]
        of_destinations *= sum(near)
    return of_tokens - of_destinations


def _sources_by_chunk(partition: Partition) -> tuple[torch.Tensor, torch.Tensor]:
    """(n_dst, most sources in a chunk) int64 indices into `partition.src`, and where they are not padding."""
    grid, place = partition.grid, partition.src
    position = (place // (grid[1] * grid[2]), place // grid[2] % grid[1], place % grid[2])
    chunk = torch.zeros_like(place)
    for p, start, stride, count in zip(position, partition.start, partition.stride, partition.chunks, strict=True):
        chunk = chunk * count + ((p - start).div(stride, rounding_mode="floor")).clamp(0, count - 1)
    order = chunk.argsort(stable=True)
    sizes = chunk.bincount(minlength=partition.dst.numel())
    column = torch.arange(place.numel()) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    table = torch.zeros(partition.dst.numel(), int(sizes.max()), dtype=torch.int64)
    occupied = torch.zeros_like(table, dtype=torch.bool)
    table[chunk[order], column], occupied[chunk[order], column] = order, True
    return table, occupied


def _neighbours(partition: Partition, radius: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(n_dst, K) int64, destinations around each chunk in ascending order, and which of them are within the radius.

    K is the same for all chunks; at the border of the grid some lie beyond the radius.
    """
    axes = []
    for count in partition.chunks:
        own, width = torch.arange(count)[:, None], min(2 * radius + 1, count)
        others = (own - radius).clamp(0, count - width) + torch.arange(width)
        axes.append((others, (others - own).abs() <= radius))
    (t, near_t), (h, near_h), (w, near_w) = axes
    _, rows, columns = partition.chunks
    frames = t[:, None, None, :, None, None] * rows * columns
    others = frames + h[None, :, None, None, :, None] * columns + w[None, None, :, None, None, :]
    near = near_t[:, None, None, :, None, None] & near_h[None, :, None, None, :, None]
    near = near & near_w[None, None, :, None, None, :]
    return others.flatten(3).flatten(0, 2), near.flatten(3).flatten(0, 2)
