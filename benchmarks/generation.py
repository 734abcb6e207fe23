"""Whole generations of the embedded model with the tuned schedule, against plain, the paper's heuristic and dense
matching: what the latency model predicted and what came about.

    python benchmarks/generation.py

Every round generates one held-out prompt with all of them, in alternating order. The heuristic (Appendix B: one
threshold on the standardised similarity, one rate) is scaled to the same predicted speed; dense matching is the tuned
schedule matched by the whole distance matrix, its minimum and a sort. The latency model is measured on this machine
first, as a tuning run does. Writes `benchmarks/results/generation.json`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

import numpy as np
import torch
from embedded import MODEL, load_profile, load_runner, machine_model, shipped_schedule, shorten
from matching import dense_match
from rich.progress import track
from timing import Row, Timing, compare, judge, parse_arguments, report

import asymrnr.reduction
from asymrnr.partition import Partition
from asymrnr.schedule import Schedule
from tuner.certify.statistics import relative_mad
from tuner.latency.model import LatencyModel
from tuner.paper.heuristic import START_THRESHOLD, HandRule
from tuner.quality.metrics import mse, psnr
from tuner.run.runner import Generation, Runner
from tuner.search.scale import smallest_scale
from tuner.strides import stride_name

TARGET = 0.9  # of the predicted speed-up
MAX_RATE = 0.875
FIRST_SEED = 9_000_000
DENSE = "tuned, dense matching"


def heuristic(model: LatencyModel, tuned: Schedule, steps: int) -> Schedule | None:
    """Appendix B's first rule at the predicted speed of the tuned schedule; None where it cannot reach it."""
    rule = HandRule.of(load_profile(), stride_name(tuned.stride), tuned.cache_step, MAX_RATE)

    def build(scale: float) -> Schedule:
        return shorten(rule.schedule(START_THRESHOLD, scale * MAX_RATE), steps)

    return smallest_scale(build, model, model.speedup(tuned))


@contextmanager
def dense_matching() -> Iterator[None]:
    """Match by the whole distance matrix of each head."""

    def match(features: torch.Tensor, partition: Partition, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
        heads = features.flatten(0, 1)
        found = [dense_match(head[None, None], partition) for head in heads]
        shape = (*features.shape[:2], partition.src.numel())
        # `Match.of` sorts distances, farthest first; the place in the dense order stands for them.
        distance = torch.stack([-order.argsort().float() for order, _ in found])
        return distance.view(shape), torch.stack([slot for _, slot in found]).int().view(shape)

    with patch.object(asymrnr.reduction, "match_tokens", match):
        yield


def measure(runner: Runner, methods: dict[str, Schedule | None], rounds: int) -> dict[str, list[Generation]]:
    """Generations of every method, one a round."""
    prompts = runner.entry.held_out_prompts(rounds)
    runner.generate(prompts[0], FIRST_SEED - 1)  # warm up
    found: dict[str, list[Generation]] = {name: [] for name in methods}
    for index in track(range(rounds), description="generating"):
        for name in list(methods)[:: 1 if index % 2 else -1]:
            with dense_matching() if name == DENSE else nullcontext():
                found[name].append(runner.generate(prompts[index], FIRST_SEED + index, methods[name]))
    return found


def judged(found: dict[str, list[Generation]], methods: dict[str, Schedule | None], model: LatencyModel) -> list[Row]:
    """Rows of a run."""
    seconds = {name: np.array([g.step_seconds.sum() for g in runs]) for name, runs in found.items()}
    rows = []
    for name, schedule in methods.items():
        if schedule is None:
            continue
        speedups = seconds["plain"] / seconds[name]
        predicted = model.speedup(schedule)
        text = f"{np.median(speedups):.3f}x of {predicted:.3f}x predicted"
        detail = {"spread": relative_mad(speedups), "seconds": seconds[name].tolist()}
        target = TARGET if name == "tuned" else None
        value = float(np.median(speedups)) / predicted
        rows.append(judge(name, "realised / predicted speed-up", value, text=text, at_least=target, **detail))
        pairs = [(a.video, b.video) for a, b in zip(found[name], found["plain"], strict=True)]
        decibels = float(np.mean([psnr(a, b) for a, b in pairs]))
        text = f"MSE {np.mean([mse(a, b) for a, b in pairs]):.3g}"
        rows.append(judge(name, "PSNR to plain (dB)", decibels, text=text))
    tuned = Timing(seconds["tuned"])
    rows += [compare("tuned", tuned, name, Timing(seconds[name]), None) for name in seconds if name != "tuned"]
    return rows


def main() -> None:
    arguments = parse_arguments(__doc__, "generation", rounds=6)
    runner = load_runner(arguments.device, arguments.quick)
    steps = runner.entry.workload.steps
    tuned = shipped_schedule(steps)
    model = machine_model(runner, runner.entry.tuning_prompts(1)[0], [tuned])
    methods: dict[str, Schedule | None] = {"plain": None, "tuned": tuned, DENSE: tuned}
    by_hand = heuristic(model, tuned, steps)
    notes = [f"{MODEL}, {steps} steps; denoising time only."]
    if by_hand is None:
        notes.append("The heuristic cannot reach the predicted speed of the tuned schedule.")
    else:
        methods["heuristic (Appendix B)"] = by_hand
    rounds = min(arguments.rounds, 2) if arguments.quick else arguments.rounds
    report(judged(measure(runner, methods, rounds), methods, model), arguments, notes)


if __name__ == "__main__":
    main()
