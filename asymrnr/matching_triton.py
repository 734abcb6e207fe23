"""Fused matching for CUDA: each program holds the running minimum of its sources over all destinations (section 3.2).

The distance matrix is never written, not even in pieces. Half-precision features are multiplied as they are: products
of two bfloat16 or float16 numbers are exact in float32, in which they are summed, so nothing is lost over converting
them first. Triton is optional: importing this module needs it, nothing else does.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from asymrnr.partition import Partition
from asymrnr.schedule import Metric

HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Tiles:
    """How a program's work is cut up.

    Attributes:
        sources: of one program.
        destinations: compared with them at a time.
        channels: in one product; all of them where they are no more.
        warps, stages: see `triton.Config`.
    """

    sources: int
    destinations: int
    channels: int
    warps: int
    stages: int


def tiles_for(dim: int, dtype: torch.dtype) -> Tiles:
    """Tiles for a head dim and a type of features; `benchmarks/matching_tiles.py` compares them with others.

    All fit into the 99 KiB of shared memory that a program has on the smallest devices of compute capability 8.
    """
    channels = max(16, triton.next_power_of_2(dim))
    if dtype not in HALF:
        return Tiles(64, 64, 16, 4, 3)
    if channels > 128:
        return Tiles(64, 64, 64, 4, 3)
    return Tiles(64, 32, channels, 4, 4)


def obstacle(device: torch.device) -> str | None:
    """Why the kernel cannot run on a device, or None when it can.

    With TRITON_INTERPRET=1 (set before Triton is imported) it runs in Triton's interpreter on any device.
    """
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None
    if device.type != "cuda":
        return f"needs a CUDA device, not '{device.type}'"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "needs a device of compute capability 8.0 or higher"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "needs a C compiler (gcc, clang or CC) to start Triton"
    return None


@triton.jit
def nearest_kernel(  # type: ignore[no-untyped-def]
    features,  # (batch, heads, tokens, D) of any strides and floating type
    centre,  # (batch * heads, D) float32, subtracted from the sources where CENTRED
    src,  # (n_src,) int64
    destinations,  # (batch * heads, n_dst, D), contiguous, of the type that products are taken in, and centred alike
    offset,  # (batch * heads, n_dst) float32
    scale,  # (batch * heads, n_dst) float32
    distance,  # out (batch * heads, n_src) float32
    slot,  # out (batch * heads, n_src) int32
    n_src,
    n_dst,
    heads,
    stride_batch,
    stride_head,
    stride_token,
    stride_channel,
    METRIC: tl.constexpr,
    CENTRED: tl.constexpr,
    D: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRODUCT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Nearest destination of BLOCK_S sources of one head: argmin over j of offset_j + scale_j * (s . d_j)."""
    head = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * BLOCK_S + tl.arange(0, BLOCK_S)
    is_row = rows < n_src
    token = tl.load(src + rows, mask=is_row, other=0)
    source = features + (head // heads) * stride_batch + (head % heads) * stride_head + token * stride_token
    centre += head * D
    destinations += head * n_dst * D
    offset += head * n_dst
    scale += head * n_dst
    lane = tl.arange(0, BLOCK_D)
    channel = tl.arange(0, BLOCK_K)

    if D <= BLOCK_K:  # the sources are read once
        mask_k = channel < D
        s = tl.load(source[:, None] + channel[None, :] * stride_channel, mask=mask_k[None, :], other=0.0)
        if CENTRED:
            s = s.to(tl.float32) - tl.load(centre + channel, mask=mask_k, other=0.0)[None, :]

    # Every lane keeps the minimum of its own columns; they are compared with each other once, at the end.
    best = tl.full((BLOCK_S, BLOCK_D), float("inf"), tl.float32)
    best_slot = tl.zeros((BLOCK_S, BLOCK_D), tl.int32)
    for start in range(0, n_dst, BLOCK_D):
        columns = start + lane
        is_column = columns < n_dst
        if D <= BLOCK_K:
            mask = is_column[None, :] & mask_k[:, None]
            d = tl.load(destinations + columns[None, :] * D + channel[:, None], mask=mask, other=0.0)
            product = tl.dot(s.to(PRODUCT), d.to(PRODUCT), input_precision=PRECISION)
        else:
            product = tl.zeros((BLOCK_S, BLOCK_D), tl.float32)
            for k in range(0, D, BLOCK_K):
                at = k + channel
                inside = at < D
                part = tl.load(source[:, None] + at[None, :] * stride_channel, mask=inside[None, :], other=0.0)
                if CENTRED:
                    part = part.to(tl.float32) - tl.load(centre + at, mask=inside, other=0.0)[None, :]
                mask = is_column[None, :] & inside[:, None]
                d = tl.load(destinations + columns[None, :] * D + at[:, None], mask=mask, other=0.0)
                product = tl.dot(part.to(PRODUCT), d.to(PRODUCT), product, input_precision=PRECISION)
        add = tl.load(offset + columns, mask=is_column, other=float("inf"))[None, :]
        times = tl.load(scale + columns, mask=is_column, other=0.0)[None, :]
        score = add + times * product
        closer = score < best
        best = tl.where(closer, score, best)
        best_slot = tl.where(closer, columns[None, :], best_slot)

    nearest = tl.min(best, axis=1)
    winner = tl.min(tl.where(best == nearest[:, None], best_slot, n_dst - 1), axis=1)  # ties: the first
    if METRIC != "dot":  # of the one chosen, exactly
        norm = tl.zeros((BLOCK_S,), tl.float32)
        chosen = destinations + winner.to(tl.int64) * D
        for k in range(0, D, BLOCK_K):
            at = k + channel
            inside = at < D
            x = tl.load(source[:, None] + at[None, :] * stride_channel, mask=inside[None, :], other=0.0)
            x = x.to(tl.float32)
            if CENTRED:
                x -= tl.load(centre + at, mask=inside, other=0.0)[None, :]
            if METRIC == "euclidean":
                x -= tl.load(chosen[:, None] + at[None, :], mask=inside[None, :], other=0.0).to(tl.float32)
            norm += tl.sum(x * x, axis=1)
        nearest = tl.sqrt(norm) if METRIC == "euclidean" else nearest / tl.maximum(tl.sqrt(norm), 1e-12)
    tl.store(distance + head * n_src + rows, nearest, mask=is_row)
    tl.store(slot + head * n_src + rows, winner, mask=is_row)


def match_fused(
    features: torch.Tensor, partition: Partition, metric: Metric, tiles: Tiles | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`match_tokens` in one kernel, for the metrics "euclidean", "cosine" and "dot".

    Products of float32 tiles run on the tensor cores as three TF32 products each, which keeps nearly all of float32's
    precision; half-precision ones are exact. Where two destinations are nearer to each other than the rounding of
    their sum, another one may win than in the reference. Exact ties go to the first destination, as there.

    Args:
        features: (batch, heads, video tokens, head dim), any floating type and strides; read where they are.
        partition: destinations and sources among the video tokens.
        metric: not "random".
        tiles: see `tiles_for`.

    Returns:
        distance: (batch, heads, n_src) float32.
        slot: (batch, heads, n_src) int32, index into `partition.dst`.
    """
    x, device = features.detach(), features.device
    batch, heads, _, dim = x.shape
    n_src, n_dst = partition.src.numel(), partition.dst.numel()
    destinations = x.index_select(2, partition.dst.to(device)).contiguous()
    centre = torch.zeros(batch, heads, 1, dim, device=device)
    if x.dtype not in HALF:
        destinations = destinations.float()
        if metric == "euclidean":  # see `asymrnr.matching.centre_of`
            centre = destinations.mean(dim=2, keepdim=True)
            destinations = destinations - centre
    squared = destinations.float().square().sum(-1)
    offset = squared if metric == "euclidean" else torch.zeros_like(squared)
    if metric == "cosine":
        scale = -squared.clamp(min=1e-24).rsqrt()
    else:
        scale = torch.full_like(squared, -2.0 if metric == "euclidean" else -1.0)
    distance = torch.empty(batch, heads, n_src, device=device)
    slot = torch.empty(batch, heads, n_src, dtype=torch.int32, device=device)
    tiles = tiles or tiles_for(dim, x.dtype)
    with torch.cuda.device_of(x):
        nearest_kernel[(triton.cdiv(n_src, tiles.sources), batch * heads)](
            x,
            centre,
            partition.src.to(device),
            destinations,
            offset,
            scale,
            distance,
            slot,
            n_src,
            n_dst,
            heads,
            *x.stride(),
            **constants(metric, dim, x.dtype, tiles),
            num_warps=tiles.warps,
            num_stages=tiles.stages,
            enable_fp_fusion=True,
        )
    return distance, slot


def constants(metric: Metric, dim: int, dtype: torch.dtype, tiles: Tiles) -> dict[str, object]:
    """Compile-time arguments of the kernel for a metric, head dim and type of features, and tiles."""
    half = dtype in HALF
    # Triton's interpreter multiplies the bits of bfloat16 numbers as if they were integers.
    as_it_is = half and os.environ.get("TRITON_INTERPRET") != "1"
    return {
        "METRIC": metric,
        "CENTRED": metric == "euclidean" and not half,
        "D": dim,
        "BLOCK_S": tiles.sources,
        "BLOCK_D": tiles.destinations,
        "BLOCK_K": tiles.channels,
        "PRODUCT": {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}[dtype] if as_it_is else tl.float32,
        "PRECISION": "ieee" if torch.version.hip else "tf32x3",
    }
