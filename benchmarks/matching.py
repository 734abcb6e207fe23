"""Matching against the bare matrix product, dense PyTorch and tomesd, at the token grids of real models.

    python benchmarks/matching.py

One head, stride 2x2x2. The product is sources times destinations in float32, the precision matching computes in for
every input type, into memory allocated before. Dense is the whole matrix, its minimum and the argsort of the sources;
tomesd (optional) is its random 2-D matching with the same share of destinations, by cosine similarity in the input's
own precision. Writes `benchmarks/results/matching.json`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import torch
from memory import peak_bytes
from rich.progress import track
from timing import Row, compare, judge, parse_arguments, report, time_interleaved

from asymrnr.matching import match_tokens
from asymrnr.partition import Grid, Partition, make_partition
from asymrnr.reduction import Match

GRIDS: tuple[Grid, ...] = ((4, 24, 32), (13, 30, 45), (21, 30, 52), (33, 34, 60))
"""3k tokens, then CogVideoX, Wan and HunyuanVideo at their usual sizes."""
QUICK_GRIDS: tuple[Grid, ...] = ((2, 8, 8), (4, 12, 16))
CHANNELS = (64, 128)
DTYPES = (torch.bfloat16, torch.float32)
PRODUCT_TARGET = 1.3  # on the CPU
DENSE_TARGET = 1 / 3
DENSE_TOKENS = 16_000  # that target is for so many tokens or more
MEMORY_TARGET = 0.05


def dense_match(x: torch.Tensor, partition: Partition) -> tuple[torch.Tensor, torch.Tensor]:
    """Order of the sources and destination of each, from the whole matrix in float32."""
    x = x[0, 0].float()
    x = x - x.mean(dim=0)
    sources, destinations = x[partition.src], x[partition.dst]
    squared = torch.addmm(destinations.square().sum(-1), sources, destinations.T, alpha=-2)
    distance, slot = squared.min(dim=-1)
    return (distance + sources.square().sum(-1)).argsort(descending=True), slot


def tomesd_match() -> Callable[[torch.Tensor, Grid], object] | None:
    """tomesd's matching, where it is installed."""
    try:
        from tomesd.merge import bipartite_soft_matching_random2d
    except ImportError:
        return None

    def match(x: torch.Tensor, grid: Grid) -> object:
        frames, height, width = grid
        tokens = frames * height * width
        generator = torch.Generator(x.device).manual_seed(0)
        half = tokens // 2
        return bipartite_soft_matching_random2d(x[0], width, frames * height, 2, 4, half, generator=generator)

    return match


def measure(grid: Grid, channels: int, dtype: torch.dtype, device: str, rounds: int) -> list[Row]:
    """All rows of one size."""
    generator = torch.Generator().manual_seed(0)
    partition = make_partition(grid, (2, 2, 2), generator)
    tokens, n_src, n_dst = math.prod(grid), partition.src.numel(), partition.dst.numel()
    x = torch.randn(1, 1, tokens, channels, generator=generator).to(device, dtype)
    sources = x[0, 0, partition.src.to(device)].float()
    destinations = x[0, 0, partition.dst.to(device)].float()
    case = f"n {tokens}, d {channels}, {str(dtype).removeprefix('torch.')}"
    dense_bytes = 4 * n_src * n_dst

    match_tokens(x, partition)  # libraries allocate when first used
    memory = peak_bytes(lambda: match_tokens(x, partition), device)
    rows = []
    if memory is not None:
        text = f"{memory / 2**20:.1f} MiB of {dense_bytes / 2**20:.1f} MiB"
        rows.append(judge(case, "peak memory / dense matrix", memory / dense_bytes, MEMORY_TARGET, text))

    candidates: dict[str, Callable[[], object]] = {
        "matching": lambda: match_tokens(x, partition),
        "matching and argsort": lambda: Match.of(x, partition),
    }
    if 2 * dense_bytes < free_bytes(device):
        out = torch.empty(n_src, n_dst, device=device)
        candidates["product"] = lambda: torch.mm(sources, destinations.T, out=out)
    if 4 * dense_bytes < free_bytes(device):
        candidates["dense"] = lambda: dense_match(x, partition)
    tomesd = tomesd_match()
    if tomesd is not None and 4 * dense_bytes < free_bytes(device):
        candidates["tomesd"] = lambda: tomesd(x, grid)
    times = time_interleaved(candidates, rounds)
    if "product" in times:
        target = PRODUCT_TARGET if device == "cpu" else None
        rows.append(compare(case, times["matching"], "product", times["product"], target))
    if "dense" in times:
        target = DENSE_TARGET if tokens >= DENSE_TOKENS else None
        rows.append(compare(case, times["matching and argsort"], "dense", times["dense"], target))
    if "tomesd" in times:
        rows.append(compare(case, times["matching and argsort"], "tomesd", times["tomesd"], None))
    return rows


def free_bytes(device: str) -> int:
    """Memory that is free now."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info()[0]
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    arguments = parse_arguments(__doc__, "matching", rounds=7)
    grids = QUICK_GRIDS if arguments.quick else GRIDS
    cases = [(g, c, t) for g in grids for c in CHANNELS for t in DTYPES]
    rows: list[Row] = []
    for case in track(cases, description="matching"):
        rows += measure(*case, arguments.device, arguments.rounds)
    notes = ["Candidates without a row did not fit into memory."]
    if tomesd_match() is None:
        notes.append("tomesd is not installed and was not compared.")
    report(rows, arguments, notes)


if __name__ == "__main__":
    main()
