"""What matching within a window costs in quality: matched distance and the video, against global matching.

    python benchmarks/windowed.py

The queries and values of some steps of the embedded model are matched globally and with radius 0, 1 and 2; then the
tuned schedule generates held-out prompts with each. Writes `benchmarks/results/windowed.json`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from embedded import MODEL, load_runner, shipped_schedule
from rich.progress import track
from timing import Row, judge, parse_arguments, report

import asymrnr
from asymrnr.partition import make_partition
from asymrnr.reduction import Match
from asymrnr.schedule import Schedule
from tuner.quality.metrics import mse, psnr
from tuner.run.runner import Runner

RADII: tuple[int | None, ...] = (None, 0, 1, 2)
SAMPLED_STEPS = 5  # about so many steps are looked at
SEED = 9_700_000


def name_of(radius: int | None) -> str:
    return "global" if radius is None else f"radius {radius}"


def distances(runner: Runner, schedule: Schedule, prompt: str) -> dict[int | None, float]:
    """Mean distance of a source to its destination, over queries and values of all blocks at some steps."""
    every = max(1, runner.entry.workload.steps // SAMPLED_STEPS)
    found: dict[int | None, list[float]] = {radius: [] for radius in RADII}

    def look(call: asymrnr.AttentionCall) -> None:
        if call.step % every:
            return
        partition = make_partition(call.grid, schedule.stride, torch.Generator().manual_seed(call.step))
        for features in (call.query, call.value):
            for radius in RADII:
                match = Match.of(features[:, :, call.video], partition, radius=radius)
                found[radius].append(float(match.mean_distance))

    runner.generate(prompt, SEED, observer=look)
    return {radius: float(np.mean(values)) for radius, values in found.items()}


def measure(runner: Runner, schedule: Schedule, rounds: int) -> list[Row]:
    """Rows of every radius: distance, PSNR and MSE."""
    prompts = runner.entry.held_out_prompts(rounds)
    matched = distances(runner, schedule, prompts[0])
    videos: dict[int | None, list[tuple[float, float]]] = {radius: [] for radius in RADII}
    for index, prompt in enumerate(track(prompts, description="generating")):
        plain = runner.generate(prompt, SEED + index).video
        for radius in RADII:
            video = runner.generate(prompt, SEED + index, replace(schedule, match_radius=radius)).video
            videos[radius].append((psnr(video, plain), mse(video, plain)))
    rows = []
    for radius in RADII:
        decibels, errors = (float(np.mean(values)) for values in zip(*videos[radius], strict=True))
        text = f"{matched[radius]:.4g} against {matched[None]:.4g}"
        rows.append(judge(name_of(radius), "matched distance / global", matched[radius] / matched[None], text=text))
        rows.append(judge(name_of(radius), "PSNR to plain (dB)", decibels, text=f"MSE {errors:.3g}"))
    return rows


def main() -> None:
    arguments = parse_arguments(__doc__, "windowed", rounds=4)
    runner = load_runner(arguments.device, arguments.quick)
    schedule = shipped_schedule(runner.entry.workload.steps)
    rows = measure(runner, schedule, 1 if arguments.quick else arguments.rounds)
    report(rows, arguments, [f"{MODEL}, tuned schedule, stride {schedule.stride}; no timing in this table."])


if __name__ == "__main__":
    main()
