"""PAB, AsymRnR and both together on the embedded model: measured speed-up and PSNR to the plain video.

    python benchmarks/stack.py [--schedule x1.30.json]

Every round generates one held-out prompt with all four, in alternating order. Without `--schedule` the shipped one is
taken. Writes `benchmarks/results/stack.json`.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import PyramidAttentionBroadcastConfig
from embedded import MODEL, load_runner, shorten
from rich.progress import track
from timing import Row, Timing, compare, judge, report

import asymrnr
from asymrnr.schedule import Schedule
from tuner.quality.metrics import psnr
from tuner.run.runner import Generation, Runner

METHODS = {"plain": (False, False), "PAB": (True, False), "AsymRnR": (False, True), "PAB + AsymRnR": (True, True)}
SKIP_RANGE, TIMESTEPS = 2, (100, 850)
FIRST_SEED = 8_000_000


def generate(runner: Runner, prompt: str, seed: int, cached: bool, schedule: Schedule | None) -> Generation:
    """One video, with diffusers' Pyramid Attention Broadcast, a schedule, both or neither."""
    pipe: Any = runner.pipe
    with ExitStack() as stack:
        if cached:
            config = PyramidAttentionBroadcastConfig(
                spatial_attention_block_skip_range=SKIP_RANGE,
                spatial_attention_timestep_skip_range=TIMESTEPS,
                current_timestep_callback=lambda: pipe.current_timestep,
            )
            pipe.transformer.enable_cache(config)
            stack.callback(pipe.transformer.disable_cache)
        return runner.generate(prompt, seed, schedule)


def measure(runner: Runner, schedule: Schedule, rounds: int) -> list[Row]:
    """Two rows a method: denoising time relative to plain, and PSNR to the plain video of the same prompt."""
    seconds: dict[str, list[float]] = {name: [] for name in METHODS}
    decibels: dict[str, list[float]] = {name: [] for name in METHODS}
    prompts = runner.entry.held_out_prompts(rounds)
    generate(runner, prompts[0], FIRST_SEED, False, None)  # warm up
    for index in track(range(rounds), description="generating"):
        videos: dict[str, Generation] = {}
        for name in list(METHODS)[:: 1 if index % 2 else -1]:
            cached, reduced = METHODS[name]
            videos[name] = generate(runner, prompts[index], FIRST_SEED + index, cached, schedule if reduced else None)
            seconds[name].append(float(videos[name].step_seconds.sum()))
        for name, generation in videos.items():
            decibels[name].append(psnr(generation.video, videos["plain"].video))
    times = {name: Timing(np.array(values)) for name, values in seconds.items()}
    rows: list[Row] = []
    for name in list(METHODS)[1:]:
        row = compare(name, times[name], "plain", times["plain"], None)
        values = decibels[name]
        rows.append({**row, "text": f"{1 / row['value']:.2f}x, {row['text']}"})
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
