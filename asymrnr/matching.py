"""Bipartite soft matching: every source token finds its most similar destination (paper section 3.2)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import get_args

import torch

from asymrnr.errors import AsymRnRError, ScheduleError
from asymrnr.partition import Partition
from asymrnr.schedule import Metric

CPU_BUDGET = 3 << 20  # stays in the cache
DEVICE_BUDGET = 256 << 20
MATRIX_SHARE, LARGEST_SHARE = 50, 16 << 20  # of one head's distance matrix, in bytes at most
LEAST_ROWS = 64  # sources in a product; with fewer it becomes slow, and heads had better wait for their turn
SWITCH = "ASYMRNR_MATCHING"


def match_tokens(
    features: torch.Tensor,
    partition: Partition,
    metric: Metric = "euclidean",
    generator: torch.Generator | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Nearest destination of every source, per batch item and head.

    On CUDA devices `match_fused` does it where Triton is installed and can run, elsewhere `match_chunked`. The
    environment variable ASYMRNR_MATCHING overrides the choice: "reference" means the latter, "triton" the former.

    Args:
        features: (batch, heads, video tokens, head dim), any floating type.
        partition: destinations and sources among the video tokens.
        metric: "euclidean", "cosine", "dot", or "random" destinations in random order.
        generator: CPU generator of the random metric.

    Returns:
        distance: (batch, heads, n_src) float32: Euclidean distance, negative similarity, or a uniform number.
        slot: (batch, heads, n_src) int32, index into `partition.dst`.

    Raises:
        ScheduleError: the features do not cover the partition's grid, or the metric is unknown.
        AsymRnRError: ASYMRNR_MATCHING has another value, or asks for the kernel where it cannot run.
    """
    check_features(features, partition)
    if metric not in get_args(Metric):
        raise ScheduleError(f"Metric is '{metric}'; choose one of {', '.join(get_args(Metric))}.")
    device = features.device
    n_src, n_dst = partition.src.numel(), partition.dst.numel()
    if metric == "random":
        shape = (*features.shape[:2], n_src)
        distance = torch.rand(shape, generator=generator)
        slot = torch.randint(0, n_dst, shape, generator=generator, dtype=torch.int32)
        return distance.to(device), slot.to(device)

    fused = _fused_kernel(device)
    return match_chunked(features, partition, metric) if fused is None else fused(features, partition, metric)


def match_chunked(
    features: torch.Tensor, partition: Partition, metric: Metric = "euclidean", budget_bytes: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`match_tokens` in plain PyTorch, on any device.

    The distance matrix is computed in chunks of sources and never exists as a whole.

    Args:
        features, partition: see `match_tokens`.
        metric: "euclidean", "cosine" or "dot".
        budget_bytes: largest piece of the distance matrix; by default a size that suits the device.

    Returns:
        distance, slot: see `match_tokens`; among equally near destinations the first.
    """
    device, (batch, heads) = features.device, features.shape[:2]
    src, dst = partition.src.to(device), partition.dst.to(device)
    distance = torch.empty(batch, heads, src.numel(), device=device)
    slot = torch.empty(batch, heads, src.numel(), dtype=torch.int32, device=device)
    # Larger pieces spare products with few sources, as long as they are little beside the whole matrix.
    share = 4 * src.numel() * dst.numel() // MATRIX_SHARE
    budget = budget_bytes or max(default_budget(device), min(share, LARGEST_SHARE))
    together = max(1, budget // (4 * LEAST_ROWS * dst.numel()))  # heads in one product
    for item in range(batch):
        for head in range(0, heads, together):
            part = item, slice(head, head + together)
            _match_heads(features[part], src, dst, metric, budget, distance[part], slot[part])
    return distance, slot


def _match_heads(
    features: torch.Tensor,
    src: torch.Tensor,
    dst: torch.Tensor,
    metric: Metric,
    budget_bytes: int,
    distance: torch.Tensor,
    slot: torch.Tensor,
) -> None:
    """Fill in distance and slot (heads, n_src) of features (heads, tokens, head dim)."""
    heads, _, dim = features.shape
    n_src, n_dst = src.numel(), dst.numel()
    right = torch.empty(heads, n_dst, dim + 1, device=features.device)
    destinations = take_float(features, dst, out=right[..., :dim])
    centre = centre_of(destinations, metric)
    comparable(destinations, centre, metric)
    # |d|^2 - 2 s d has the same argmin as the squared distance, a similarity is its own negative. Either is the
    # product of (s, 1) with (scale d, offset), which spares a pass over the scores.
    euclidean = metric == "euclidean"
    right[..., dim] = destinations.square().sum(-1) if euclidean else 0
    destinations.mul_(-2.0 if euclidean else -1.0)
    rows = min(n_src, max(1, budget_bytes // (4 * heads * n_dst)))
    left, scores = right.new_ones(heads, rows, dim + 1), right.new_empty(heads, rows, n_dst)
    for start in range(0, n_src, rows):
        stop = min(start + rows, n_src)
        piece, sources = scores[:, : stop - start], left[:, : stop - start, :dim]
        comparable(take_float(features, src[start:stop], out=sources), centre, metric)
        torch.bmm(left[:, : stop - start], right.mT, out=piece)
        best, slot[:, start:stop] = piece.min(dim=-1)
        if euclidean:
            norm = torch.linalg.vector_norm(sources, dim=-1)
            best = best.addcmul_(norm, norm).clamp_(min=0).sqrt_()
        distance[:, start:stop] = best


def check_features(features: torch.Tensor, partition: Partition) -> None:
    """Features must be (batch, heads, video tokens of the grid, head dim).

    Raises:
        ScheduleError: they are not.
    """
    if features.dim() != 4 or features.shape[2] != partition.tokens:
        raise ScheduleError(
            f"Features of shape {tuple(features.shape)} do not hold the {partition.tokens} tokens of the grid."
        )


def default_budget(device: torch.device) -> int:
    """Bytes that a piece of the distance matrix may take."""
    return CPU_BUDGET if device.type == "cpu" else DEVICE_BUDGET


def take_float(features: torch.Tensor, index: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """A float32 copy of some tokens.

    Args:
        features: (..., tokens, head dim), any floating type and strides.
        index: (n,) positions.
        out: where to put it.

    Returns:
        (..., n, head dim)
    """
    taken = features.detach().index_select(-2, index)
    return taken.float() if out is None else out.copy_(taken)


def centre_of(destinations: torch.Tensor, metric: Metric) -> torch.Tensor | None:
    """What to subtract from all tokens before they are compared: for the Euclidean metric the mean destination.

    It changes no distance, but removes the common component that makes |s|^2 - 2 s d + |d|^2 cancel. The destinations,
    one of every chunk, stand for all tokens.

    Args:
        destinations: (..., n_dst, head dim) float32.

    Returns:
        (..., 1, head dim), or None for the other metrics.
    """
    return destinations.mean(dim=-2, keepdim=True) if metric == "euclidean" else None


def comparable(tokens: torch.Tensor, centre: torch.Tensor | None, metric: Metric) -> torch.Tensor:
    """Tokens whose products tell similarities: centred, and of length one for the cosine. Overwrites its argument.

    Float32, because squared distances in bfloat16 pick other destinations for a large share of the tokens.

    Args:
        tokens: see `take_float`.
        centre: see `centre_of`.
    """
    if centre is not None:
        tokens.sub_(centre)
    return torch.nn.functional.normalize(tokens, dim=-1, out=tokens) if metric == "cosine" else tokens


def _fused_kernel(
    device: torch.device,
) -> Callable[[torch.Tensor, Partition, Metric], tuple[torch.Tensor, torch.Tensor]] | None:
    """The kernel, where it is to be used."""
    choice = os.environ.get(SWITCH, "")
    if choice not in ("", "reference", "triton"):
        raise AsymRnRError(f"{SWITCH} is '{choice}'; set it to 'reference' or 'triton', or leave it unset.")
    if choice == "reference" or (choice == "" and device.type != "cuda"):
        return None
    try:
        from asymrnr import matching_triton
    except ImportError:
        why_not: str | None = "needs the package triton, which cannot be imported"
    else:
        why_not = matching_triton.obstacle(device)
        if why_not is None:
            return matching_triton.match_fused
    if choice == "triton":
        raise AsymRnRError(f"{SWITCH} is 'triton', but the kernel {why_not}.")
    return None
