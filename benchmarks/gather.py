"""Gathering the kept tokens and restoring all of them, against a plain copy of as many bytes.

    python benchmarks/gather.py

Half of the tokens are dropped. Both sides write the reduced and then the full sequence into fresh memory; the copy
reads contiguous memory. Writes `benchmarks/results/gather.json`.
"""

from __future__ import annotations

import math

import torch
from rich.progress import track
from timing import Row, compare, parse_arguments, report, time_interleaved

from asymrnr.partition import Grid, make_partition
from asymrnr.reduction import Match

CASES: tuple[tuple[Grid, int, int], ...] = (((13, 30, 45), 30, 64), ((21, 30, 52), 12, 128), ((33, 34, 60), 24, 128))
"""Token grid, heads and head dim of CogVideoX-2B, Wan 1.3B and HunyuanVideo."""
QUICK_CASES: tuple[tuple[Grid, int, int], ...] = (((4, 12, 16), 4, 64),)
LAYOUTS = ("heads first", "tokens first")
DTYPES = (torch.bfloat16, torch.float32)
RATE = 0.5
TARGET = 3.0


def measure(
    case: tuple[Grid, int, int], layout: str, dtype: torch.dtype, device: str, rounds: int, seed: int = 0
) -> Row:
    """The row of one size, type and order of the axes in memory."""
    grid, heads, dim = case
    tokens = math.prod(grid)
    generator = torch.Generator().manual_seed(seed)
    partition = make_partition(grid, (2, 2, 2), generator)
    shape = (1, heads, tokens, dim) if layout == "heads first" else (1, tokens, heads, dim)
    contiguous = torch.randn(shape, generator=generator).to(device, dtype)
    x = contiguous if layout == "heads first" else contiguous.transpose(1, 2)
    # Random destinations scatter the accesses more than similar ones would.
    plan = Match.of(x, partition, "random", generator).plan(RATE)
    reduced = plan.reduce(x)
    times = time_interleaved(
        {
            "gather": lambda: (plan.reduce(x), plan.restore(reduced)),
            "copy": lambda: (reduced.clone(), contiguous.clone()),
        },
        rounds,
    )
    label = f"n {tokens}, {heads} x {dim}, {str(dtype).removeprefix('torch.')}, {layout}"
    return compare(label, times["gather"], "copy", times["copy"], TARGET)


def main() -> None:
    arguments = parse_arguments(__doc__, "gather", rounds=15)
    sizes = QUICK_CASES if arguments.quick else CASES
    cases = [(s, layout, dtype) for s in sizes for layout in LAYOUTS for dtype in DTYPES]
    rows = [measure(*c, arguments.device, arguments.rounds) for c in track(cases, description="gather")]
    report(rows, arguments, [])


if __name__ == "__main__":
    main()
