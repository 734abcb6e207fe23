"""How matching grows with tokens and heads, and the solver of rate tables with steps and blocks.

    python benchmarks/growth.py

Each series is fitted with a power; 1 means proportional. Global matching is fitted against sources times
destinations, windowed matching (radius 1) against tokens: that is the growth they promise. Sizes that fit into a
cache level grow faster where they leave it. Writes `benchmarks/results/growth.json`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from bound import make_problem
from rich.progress import track
from timing import Row, Timing, judge, parse_arguments, report, time_interleaved

from asymrnr.matching import match_tokens
from asymrnr.matching_local import match_local
from asymrnr.partition import Grid, make_partition
from tuner.search.lagrangian import solve

GRIDS: tuple[Grid, ...] = ((4, 24, 32), (8, 32, 32), (13, 30, 45), (21, 30, 52), (33, 34, 60))
QUICK_GRIDS: tuple[Grid, ...] = ((2, 8, 8), (4, 8, 8), (4, 12, 16))
HEADS, HEADS_GRID, QUICK_HEADS_GRID = (1, 2, 4, 8, 16), (8, 32, 32), (2, 8, 8)
STEPS, BLOCKS = (10, 25, 50, 100), (10, 20, 40, 60)
SMALL_STEPS, SMALL_BLOCKS = 10, 4
DIM = 64
RADIUS = 1
TARGET = 1.15  # exponent
Job = Callable[[], object]


def matching_job(grid: Grid, heads: int, device: str, radius: int | None) -> tuple[Job, float]:
    """A matching, and the product of sources and destinations that it should be proportional to."""
    generator = torch.Generator().manual_seed(0)
    partition = make_partition(grid, (2, 2, 2), generator)
    x = torch.randn(1, heads, partition.tokens, DIM, generator=generator).to(device)
    pairs = float(partition.src.numel() * partition.dst.numel())
    if radius is None:
        return lambda: match_tokens(x, partition), pairs
    return lambda: match_local(x, partition, radius), float(partition.tokens)


def solver_job(blocks: int, steps: int) -> Job:
    """Solving a rate table for half of the time."""
    problem = make_problem(blocks, steps)
    return lambda: solve(problem, 0.5 * blocks * steps)


def series(name: str, sizes: list[float], work: list[float], jobs: list[Job], rounds: int) -> Row:
    """The row of one series: the power of the work that the medians follow."""
    times = time_interleaved({str(i): job for i, job in enumerate(jobs)}, rounds)
    medians = [times[str(i)].median for i in range(len(jobs))]
    exponent = float(np.polyfit(np.log(work), np.log(medians), 1)[0])
    text = "; ".join(f"{size:g}: {Timing(times[str(i)].seconds)}" for i, size in enumerate(sizes))
    row = judge(name, "exponent of the growth", exponent, TARGET, text)
    return {**row, "sizes": sizes, "work": work, "seconds": medians}


def main() -> None:
    arguments = parse_arguments(__doc__, "growth", rounds=7)
    grids, heads_grid = (QUICK_GRIDS, QUICK_HEADS_GRID) if arguments.quick else (GRIDS, HEADS_GRID)
    device, rounds = arguments.device, arguments.rounds
    tokens = [float(math.prod(grid)) for grid in grids]
    heads = [float(h) for h in HEADS]
    everywhere = [matching_job(grid, 1, device, None) for grid in grids]
    near = [matching_job(grid, 1, device, RADIUS) for grid in grids]
    many = [matching_job(heads_grid, h, device, None)[0] for h in HEADS]
    steps, blocks = (STEPS[:2], BLOCKS[:2]) if arguments.quick else (STEPS, BLOCKS)
    fixed = (SMALL_BLOCKS, SMALL_STEPS) if arguments.quick else (max(BLOCKS), max(STEPS) // 2)
    by_steps, by_blocks = [float(s) for s in steps], [float(b) for b in blocks]
    plans = [
        ("global matching, tokens", tokens, [w for _, w in everywhere], [j for j, _ in everywhere]),
        (f"windowed matching (radius {RADIUS}), tokens", tokens, [w for _, w in near], [j for j, _ in near]),
        (f"global matching, heads at {math.prod(heads_grid)} tokens", heads, heads, many),
        (f"table solver, steps at {fixed[0]} blocks", by_steps, by_steps, [solver_job(fixed[0], s) for s in steps]),
        (f"table solver, blocks at {fixed[1]} steps", by_blocks, by_blocks, [solver_job(b, fixed[1]) for b in blocks]),
    ]
    rows = [series(*plan, rounds) for plan in track(plans, description="growth")]
    report(rows, arguments, ["Exponents of global matching are of sources times destinations, others of the size."])


if __name__ == "__main__":
    main()
