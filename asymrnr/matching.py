"""Bipartite soft matching: every source token finds its most similar destination (paper section 3.2)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import get_args

import torch

from asymrnr.errors import AsymRnRError, ScheduleError
from asymrnr.partition import Partition
from asymrnr.schedule import Metric

CPU_BUDGET = 4 << 20  # stays in the cache
DEVICE_BUDGET = 256 << 20
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
    device = features.device
    n_src, n_dst = partition.src.numel(), partition.dst.numel()
    batch, heads = features.shape[:2]
    x = comparable(features, metric)
    src, destinations = partition.src.to(device), x.index_select(1, partition.dst.to(device))
    # |d|^2 - 2 s d has the same argmin as the squared distance; a similarity is its own negative.
    offset = destinations.square().sum(-1) if metric == "euclidean" else x.new_zeros(x.shape[0], n_dst)
    scale = -2.0 if metric == "euclidean" else -1.0
    rows = max(1, (budget_bytes or default_budget(device)) // (4 * batch * heads * n_dst))
    scores = x.new_empty(x.shape[0], min(rows, n_src), n_dst)
    distance = x.new_empty(x.shape[0], n_src)
    slot = torch.empty(x.shape[0], n_src, dtype=torch.int32, device=device)
    for start in range(0, n_src, rows):
        sources = x.index_select(1, src[start : start + rows])
        stop = start + sources.shape[1]
        piece = scores[:, : stop - start]
        torch.baddbmm(offset[:, None], sources, destinations.mT, alpha=scale, out=piece)
        best, slot[:, start:stop] = piece.min(dim=-1)
        if metric == "euclidean":
            best = best.add_(sources.square().sum(-1)).clamp_(min=0).sqrt_()
        distance[:, start:stop] = best
    return distance.view(batch, heads, n_src), slot.view(batch, heads, n_src)


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


def comparable(features: torch.Tensor, metric: Metric) -> torch.Tensor:
    """Features whose products tell similarities, in float32.

    Squared distances in bfloat16 pick other destinations for a large share of the tokens. For the Euclidean metric the
    token mean of each head is subtracted, which changes no distance but removes the common component that makes
    |s|^2 - 2 s d + |d|^2 cancel; for the cosine, tokens are normalised.

    Args:
        features: (batch, heads, tokens, head dim), any floating type.

    Returns:
        (batch * heads, tokens, head dim)
    """
    x = features.detach().float().flatten(0, 1)
    if metric == "euclidean":
        return x - x.mean(dim=1, keepdim=True)
    return torch.nn.functional.normalize(x, dim=-1) if metric == "cosine" else x


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
