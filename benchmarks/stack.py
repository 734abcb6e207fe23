"""PAB, AsymRnR and both together on the embedded model: measured speed-up and PSNR to the plain video.

    python benchmarks/stack.py [--schedule FILE]

Every round generates one held-out prompt with each of them, beside the plain pipeline in lock-step. Without
`--schedule` the shipped one is taken. Writes `benchmarks/results/stack.json`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from caches import pyramid
from embedded import MODEL, load_runner, shorten
from lockstep_methods import beside_plain, twin_of, typical, typical_text, warm_up
from rich.progress import track
from timing import Row, judge, report

import asymrnr
from asymrnr.schedule import Schedule
from tuner.quality.metrics import psnr
from tuner.run.runner import Runner

METHODS = {"PAB": (True, False), "AsymRnR": (False, True), "PAB + AsymRnR": (True, True)}
SKIP_RANGE, TIMESTEPS = 2, (100, 850)
FIRST_SEED = 8_000_000


def measure(runner: Runner, schedule: Schedule, rounds: int) -> list[Row]:
    """Two rows a method: denoising time relative to plain, and PSNR to the plain video of the same prompt."""
    speedups: dict[str, list[float]] = {name: [] for name in METHODS}  # logarithms
    decibels: dict[str, list[float]] = {name: [] for name in METHODS}
    disturbed = dict.fromkeys(METHODS, 0)
    prompts, twin = runner.entry.held_out_prompts(rounds), twin_of(runner)
    warm_up(runner, twin, prompts[0])
    for index in track(range(rounds), description="generating"):
        for name, (cached, reduced) in METHODS.items():
            found = beside_plain(
                *(runner, twin, prompts[index], FIRST_SEED + index),
                schedule=schedule if reduced else None,
                install=pyramid(SKIP_RANGE, TIMESTEPS) if cached else None,
            )
            speedups[name].append(found.estimate.log_speedup)
            disturbed[name] += found.estimate.disturbed
            decibels[name].append(psnr(found.method.video, found.plain.video))
    rows: list[Row] = []
    for name in METHODS:
        logs, values = speedups[name], decibels[name]
        detail = {"speedups": np.exp(logs).tolist(), "disturbed": disturbed[name]}
        value, _, _ = typical([-log for log in logs])
        rows.append(
            judge(name, "time / plain", value, None, f"{typical_text(logs, '{:.3f}x')}, 95 % t interval", **detail)
        )
        text = f"{min(values):.1f} to {max(values):.1f} dB"
        rows.append(judge(name, "PSNR to plain (dB), mean", float(np.mean(values)), None, text, all_decibels=values))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps, to see that it runs")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--schedule", type=Path, help="artifact file; by default the shipped one")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "stack.json")
    arguments = parser.parse_args()
    runner = load_runner(arguments.device, arguments.quick)
    schedule = asymrnr.load(MODEL if arguments.schedule is None else arguments.schedule)
    schedule = shorten(schedule, runner.entry.workload.steps)
    rows = measure(runner, schedule, arguments.rounds)
    arguments.schedule = arguments.schedule and str(arguments.schedule)
    notes = [
        f"PAB broadcasts every {SKIP_RANGE} steps at timesteps {TIMESTEPS[0]} to {TIMESTEPS[1]}.",
        f"Schedule: attention cost {schedule.attention_cost():.3f}, hash {schedule.content_hash()[:12]}.",
    ]
    report(rows, arguments, notes)


if __name__ == "__main__":
    main()
