"""The matching kernel beside attention at the shapes of real models, and with other tiles than those it chooses.

    python benchmarks/matching_tiles.py            # needs a CUDA device; without one it only says so
    python benchmarks/matching_tiles.py --quick    # small shapes

Features are random and bfloat16. Writes `benchmarks/results/matching_tiles.json`.
"""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from rich.progress import track
from timing import Row, judge, parse_arguments, report, time_interleaved
from torch.nn.functional import scaled_dot_product_attention

from asymrnr.matching import match_chunked
from asymrnr.partition import Grid, make_partition

CASES: dict[str, tuple[Grid, Grid, int, int]] = {
    "CogVideoX-2B": ((13, 30, 45), (2, 2, 2), 30, 64),
    "Mochi": ((15, 30, 53), (6, 2, 2), 24, 128),
    "HunyuanVideo": ((33, 34, 60), (6, 2, 2), 24, 128),
}
"""Token grid, stride, heads, head dim."""
SIZES = (
    (64, 32, 4, 4),
    (64, 64, 4, 3),
    (64, 128, 4, 3),
    (128, 32, 4, 3),
    (128, 64, 4, 3),
    (128, 64, 8, 3),
    (128, 64, 8, 4),
    (128, 128, 8, 2),
    (128, 128, 8, 3),
    (256, 64, 8, 3),
)
"""Sources, destinations, warps, stages."""
BEST_TARGET = 1.1
QUICK_GRID: Grid = (4, 12, 16)
DTYPE = torch.bfloat16


def choices(dim: int) -> list[Any]:
    """Tiles to compare."""
    from asymrnr.matching_triton import Tiles

    return [Tiles(sources, destinations, dim, warps, stages) for sources, destinations, warps, stages in SIZES]


def compile_one(case: tuple[int, Any]) -> str:
    """Compile the kernel for a head dim and tiles, so that Triton finds it in its cache; what is wrong, or nothing."""
    from asymrnr.matching_triton import match_fused

    dim, tiles = case
    partition = make_partition(QUICK_GRID, (2, 2, 2), torch.Generator().manual_seed(0))
    try:
        match_fused(features(QUICK_GRID, 2, dim), partition, "euclidean", tiles)
        torch.cuda.synchronize()
    except Exception as error:  # too much shared memory, of whatever class
        return type(error).__name__
    print(f"compiled {dim} channels, {tiles}", flush=True)
    return ""


def features(grid: Grid, heads: int, dim: int) -> torch.Tensor:
    return torch.randn(1, heads, math.prod(grid), dim, device="cuda", dtype=DTYPE)


def measure(name: str, rounds: int, quick: bool, usable: dict[int, list[Any]]) -> list[Row]:
    """Rows of one model."""
    from asymrnr.matching_triton import match_fused, tiles_for

    grid, stride, heads, dim = CASES[name]
    grid = QUICK_GRID if quick else grid
    partition = make_partition(grid, stride, torch.Generator().manual_seed(0)).to(torch.device("cuda"))
    x = features(grid, heads, dim)
    chosen = tiles_for(dim, DTYPE)
    candidates: dict[str, Callable[[], object]] = {
        "attention": lambda: scaled_dot_product_attention(x, x, x),
        "chunked": lambda: match_chunked(x, partition),
    }
    for tiles in {chosen: None} | dict.fromkeys(usable[dim]):
        candidates[str(tiles)] = partial(match_fused, x, partition, "euclidean", tiles)
    times = time_interleaved(candidates, rounds)
    case = f"{name}, {math.prod(grid)} tokens, {heads} heads of {dim}"
    products = partition.src.numel() * partition.dst.numel() / (2 * math.prod(grid) ** 2)
    return rows_of(case, str(chosen), products, {name: timing.median for name, timing in times.items()})


def rows_of(case: str, chosen: str, products: float, seconds: dict[str, float]) -> list[Row]:
    """Rows from seconds of "attention", "chunked" and the tiles, and products of matching per product of attention."""
    attention, chunked = seconds["attention"], seconds["chunked"]
    tiles = {name: taken for name, taken in seconds.items() if name not in ("attention", "chunked")}
    best = min(tiles.values())
    text = f"{attention * 1e3:.3g} ms of attention, {products:.1%} as many products"
    rows = [
        judge(case, "matching in plain PyTorch / attention", chunked / attention, text=text),
        judge(case, "the kernel / attention", tiles[chosen] / attention, text=f"{tiles[chosen] * 1e3:.3g} ms"),
        judge(case, "its tiles / the best", tiles[chosen] / best, BEST_TARGET, chosen),
    ]
    return rows + [judge(case, f"{name} / attention", taken / attention) for name, taken in tiles.items()]


def main() -> None:
    arguments = parse_arguments(__doc__, "matching_tiles", rounds=5)
    rows: list[Row] = []
    notes = ["bfloat16, one batch item."]
    if not torch.cuda.is_available():
        report(rows, arguments, ["Not run: no CUDA device."])
        return
    dims = sorted({dim for *_, dim in CASES.values()})
    cases = [(dim, tiles) for dim in dims for tiles in choices(dim)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(12, os.cpu_count() or 1)) as pool:
        wrong = pool.map(compile_one, cases, chunksize=1)
    usable = {dim: [t for (d, t), error in zip(cases, wrong, strict=True) if d == dim and not error] for dim in dims}
    notes += [f"{error}: {asdict(t)}" for (_, t), error in zip(cases, wrong, strict=True) if error]
    for name in track(CASES, description="tiles"):
        rows += measure(name, arguments.rounds, arguments.quick, usable)
    report(rows, arguments, notes)


if __name__ == "__main__":
    main()
