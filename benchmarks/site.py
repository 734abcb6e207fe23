"""One attention site with reduced queries, keys and values against full attention: how much of the FLOPs gain is real.

    python benchmarks/site.py

Queries and keys/values are reduced at the same rate. The reduced side gathers, attends and restores with plans at
hand, plus a fifth of planning and matching both features: they are reused for five steps, the paper's setting. The
FLOPs gain is that of the attention alone. Writes `benchmarks/results/site.json`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from rich.progress import track
from timing import Row, judge, parse_arguments, report, time_interleaved

from asymrnr.partition import Grid, make_partition
from asymrnr.reduction import Match, Plan
from tuner.run.estimate import relative_mad

CASES: tuple[tuple[Grid, int, int], ...] = (((4, 24, 32), 2, 64), ((8, 32, 32), 2, 64), ((13, 30, 45), 1, 64))
"""Token grid, heads and head dim: 3k, 8k and 17k tokens."""
QUICK_CASES: tuple[tuple[Grid, int, int], ...] = (((4, 12, 16), 2, 64),)
STRIDES: dict[float, Grid] = {0.3: (2, 2, 2), 0.5: (2, 2, 2), 0.7: (2, 2, 2), 0.8: (2, 2, 2), 0.9: (2, 3, 3)}
"""Stride of each rate; one destination in eight allows no more than 0.875."""
DTYPES = (torch.bfloat16, torch.float32)
CACHE_STEP = 5
TARGET = 0.85
TARGET_TOKENS = 8000  # that target is for so many tokens or more


def measure(case: tuple[Grid, int, int], dtype: torch.dtype, device: str, rounds: int) -> list[Row]:
    """A row a rate."""
    grid, heads, dim = case
    tokens = math.prod(grid)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, tokens, dim, generator=generator).to(device, dtype) for _ in range(3))

    def matching(rate: float) -> Callable[[], tuple[Plan, Plan]]:
        def run() -> tuple[Plan, Plan]:
            parts = [make_partition(grid, STRIDES[rate], torch.Generator().manual_seed(i)) for i in range(2)]
            return Match.of(q, parts[0]).plan(rate), Match.of(v, parts[1]).plan(rate)

        return run

    def reduced(plan_q: Plan, plan_v: Plan) -> Callable[[], object]:
        def run() -> object:
            output = F.scaled_dot_product_attention(plan_q.reduce(q), plan_v.reduce(k), plan_v.reduce(v))
            return plan_q.restore(output)

        return run

    candidates: dict[str, Callable[[], object]] = {"full": lambda: F.scaled_dot_product_attention(q, k, v)}
    for rate in STRIDES:
        candidates[f"match {rate}"] = matching(rate)
        candidates[f"site {rate}"] = reduced(*matching(rate)())
    with torch.inference_mode():
        times = time_interleaved(candidates, rounds)
    full = times["full"].seconds
    rows = []
    for rate in STRIDES:
        share = (times[f"site {rate}"].seconds + times[f"match {rate}"].seconds / CACHE_STEP) / full
        flops = (int(tokens * (1 - rate)) / tokens) ** 2
        realised = (1 - share) / (1 - flops)
        text = (
            f"time saved {1 - np.median(share):.1%} of FLOPs saved {1 - flops:.1%}; {1 / np.median(share):.2f}x of "
            f"{1 / flops:.2f}x; full {times['full']}, matching {times[f'match {rate}']}"
        )
        label = f"n {tokens}, {heads} x {dim}, {str(dtype).removeprefix('torch.')}, rate {rate}"
        detail = {"spread": relative_mad(realised), "share": share.tolist()}
        target = TARGET if tokens >= TARGET_TOKENS else None
        value = float(np.median(realised))
        rows.append(judge(label, "realised / FLOPs gain", value, text=text, at_least=target, **detail))
    return rows


def main() -> None:
    arguments = parse_arguments(__doc__, "site", rounds=7)
    cases = [(c, t) for c in (QUICK_CASES if arguments.quick else CASES) for t in DTYPES]
    rows: list[Row] = []
    for case in track(cases, description="site"):
        rows += measure(*case, arguments.device, arguments.rounds)
    notes = [f"A gain is the share of time or operations saved; {CACHE_STEP} steps share a matching."]
    report(rows, arguments, notes)


if __name__ == "__main__":
    main()
