"""Surrogate trials per minute of the search, and how long the bound takes, on one core.

    python benchmarks/search_speed.py

The profile is the embedded model's. Trials include what the search does around them. Writes
`benchmarks/results/search_speed.json`.
"""

from __future__ import annotations

import os

import torch
from embedded import load_profile
from rich.progress import track
from timing import Row, judge, parse_arguments, report, time_interleaved

from tuner.commands.solve_profile import model_of, space_of
from tuner.run.estimate import relative_mad
from tuner.search.error import ErrorModel
from tuner.search.feasibility import profiled
from tuner.search.study import search
from tuner.search.table import TableSolver

SPEEDUP = 1.2
TRIALS, QUICK_TRIALS = (100, 300), (10,)
TRIALS_TARGET = 1000  # a minute
BOUND_TARGET = 1000  # milliseconds


def main() -> None:
    arguments = parse_arguments(__doc__, "search_speed", rounds=3, cpu_only=True)
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    profile = load_profile()
    model, space = model_of(profile), space_of(profile)
    pairs = profiled(profile, space)
    rows: list[Row] = []
    for trials in track(QUICK_TRIALS if arguments.quick else TRIALS, description="search"):
        run = time_interleaved(
            {"search": lambda trials=trials: search(profile, model, space, SPEEDUP, trials=trials)}, arguments.rounds
        )["search"]
        text, spread = f"{trials} trials in {run}", relative_mad(run.seconds)
        per_minute = 60 * trials / run.median
        case = f"{profile.blocks} x {profile.steps} sites, {trials} trials"
        rows.append(judge(case, "trials / minute", per_minute, text=text, at_least=TRIALS_TARGET, spread=spread))

    def find_bound() -> float:  # anew every time: a solver remembers what it solved
        return TableSolver(ErrorModel(profile), model).bound(SPEEDUP, pairs)

    bound = time_interleaved({"bound": find_bound}, arguments.rounds)["bound"]
    text, spread = f"over {len(pairs)} pairs of stride and cache step", relative_mad(bound.seconds)
    case = f"{profile.blocks} x {profile.steps} sites"
    rows.append(judge(case, "bound (ms)", 1e3 * bound.median, BOUND_TARGET, text, spread=spread))
    report(rows, arguments, [f"Predicted speed-up {SPEEDUP:g}x; one thread on one core."])


if __name__ == "__main__":
    main()
