"""Fused matching for CUDA: each program holds the running minimum of its sources over all destinations (section 3.2).

The distance matrix is never written, not even in pieces. Triton is optional: importing this module needs it, nothing
else does. The blocks keep the compiled kernel within the registers and shared memory of compute capabilities 8.0 and
9.0; they were not tuned on a device.
"""

from __future__ import annotations

import os
import shutil

import torch
import triton
import triton.language as tl

from asymrnr.partition import Partition
from asymrnr.schedule import Metric

BLOCK_SOURCES = 64
BLOCK_DESTINATIONS = 64
BLOCK_CHANNELS = 16


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
    centre,  # (batch * heads, D) float32, subtracted from the sources
    src,  # (n_src,) int64
    destinations,  # (batch * heads, n_dst, D) float32, contiguous
    offset,  # (batch * heads, n_dst) float32
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
    D: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Nearest destination of BLOCK_S sources of one head: argmin over j of offset_j + scale * (s - centre) . d_j."""
    head = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * BLOCK_S + tl.arange(0, BLOCK_S)
    is_row = rows < n_src
    token = tl.load(src + rows, mask=is_row, other=0)
    source = features + (head // heads) * stride_batch + (head % heads) * stride_head + token * stride_token
    centre += head * D
    destinations += head * n_dst * D
    scale = -2.0 if METRIC == "euclidean" else -1.0

    best = tl.full((BLOCK_S,), float("inf"), tl.float32)
    best_slot = tl.zeros((BLOCK_S,), tl.int32)
    for start in range(0, n_dst, BLOCK_D):
        columns = start + tl.arange(0, BLOCK_D)
        is_column = columns < n_dst
        product = tl.zeros((BLOCK_S, BLOCK_D), tl.float32)
        for k in range(0, D, BLOCK_K):
            channel = k + tl.arange(0, BLOCK_K)
            inside = channel < D
            s = tl.load(source[:, None] + channel[None, :] * stride_channel, mask=inside[None, :], other=0.0)
            s = s.to(tl.float32) - tl.load(centre + channel, mask=inside, other=0.0)[None, :]
            mask = is_column[None, :] & inside[:, None]
            d = tl.load(destinations + columns[None, :] * D + channel[:, None], mask=mask, other=0.0)
            product = tl.dot(s, d, product, input_precision=PRECISION)
        score = tl.load(offset + head * n_dst + columns, mask=is_column, other=float("inf"))[None, :] + scale * product
        value, index = tl.min(score, axis=1, return_indices=True)  # ties: the first
        closer = value < best
        best = tl.where(closer, value, best)
        best_slot = tl.where(closer, start + index, best_slot)

    if METRIC != "dot":
        norm = tl.zeros((BLOCK_S,), tl.float32)
        for k in range(0, D, BLOCK_K):
            channel = k + tl.arange(0, BLOCK_K)
            inside = channel < D
            s = tl.load(source[:, None] + channel[None, :] * stride_channel, mask=inside[None, :], other=0.0)
            s = s.to(tl.float32) - tl.load(centre + channel, mask=inside, other=0.0)[None, :]
            norm += tl.sum(s * s, axis=1)
        if METRIC == "euclidean":
            best = tl.sqrt(tl.maximum(best + norm, 0.0))
        else:
            best = best / tl.maximum(tl.sqrt(norm), 1e-12)
    tl.store(distance + head * n_src + rows, best, mask=is_row)
    tl.store(slot + head * n_src + rows, best_slot, mask=is_row)


def match_fused(features: torch.Tensor, partition: Partition, metric: Metric) -> tuple[torch.Tensor, torch.Tensor]:
    """`match_tokens` in one kernel, for the metrics "euclidean", "cosine" and "dot".

    Products of float32 tiles run on the tensor cores as three TF32 products each, which keeps nearly all of float32's
    precision; where two destinations are nearer to each other than its rounding, another one may win than in the
    reference. Exact ties go to the first destination, as there.

    Args:
        features: (batch, heads, video tokens, head dim), any floating type and strides; read where they are.
        partition: destinations and sources among the video tokens.
        metric: not "random".

    Returns:
        distance: (batch, heads, n_src) float32.
        slot: (batch, heads, n_src) int32, index into `partition.dst`.
    """
    x, device = features.detach(), features.device
    batch, heads, _, dim = x.shape
    n_src, n_dst = partition.src.numel(), partition.dst.numel()
    destinations = x.index_select(2, partition.dst.to(device)).float()
    if metric == "euclidean":
        centre = destinations.mean(dim=2, keepdim=True)  # see `asymrnr.matching.centre_of`
        destinations = destinations - centre
        offset = destinations.square().sum(-1)
    else:
        centre = torch.zeros(batch, heads, 1, dim, device=device)
        offset = torch.zeros(batch, heads, n_dst, device=device)
        if metric == "cosine":
            destinations = torch.nn.functional.normalize(destinations, dim=-1)
    distance = torch.empty(batch, heads, n_src, device=device)
    slot = torch.empty(batch, heads, n_src, dtype=torch.int32, device=device)
    with torch.cuda.device_of(x):
        nearest_kernel[(triton.cdiv(n_src, BLOCK_SOURCES), batch * heads)](
            x,
            centre,
            partition.src.to(device),
            destinations.contiguous(),
            offset,
            distance,
            slot,
            n_src,
            n_dst,
            heads,
            *x.stride(),
            **constants(metric, dim),
            enable_fp_fusion=True,
        )
    return distance, slot


def constants(metric: Metric, dim: int) -> dict[str, str | int]:
    """Compile-time arguments of the kernel for a metric and a head dim."""
    return {
        "METRIC": metric,
        "D": dim,
        "BLOCK_S": BLOCK_SOURCES,
        "BLOCK_D": BLOCK_DESTINATIONS,
        "BLOCK_K": BLOCK_CHANNELS,
        "PRECISION": "ieee" if torch.version.hip else "tf32x3",
    }
