"""Whole generations of the embedded model with the tuned schedule, against plain, the paper's heuristic and dense
matching: what the latency model predicted and what came about.

    python benchmarks/generation.py

Every round generates one held-out prompt with each of them, beside the plain pipeline in lock-step. The heuristic
(Appendix B: one threshold on the standardised similarity, one rate) is scaled to the same predicted speed; dense
matching is the tuned schedule matched by the whole distance matrix, its minimum and a sort. The latency model is
measured on this machine first, as a tuning run does. Writes `benchmarks/results/generation.json`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import torch
from embedded import MODEL, load_profile, load_runner, machine_model, shipped_schedule, shorten
from lockstep_methods import Beside, beside_plain, twin_of, typical, typical_text, warm_up
from matching import dense_match
from rich.progress import track
from timing import Row, judge, parse_arguments, report

import asymrnr.reduction
from asymrnr.partition import Partition
from asymrnr.schedule import Schedule
from tuner.latency.model import LatencyModel
from tuner.paper.heuristic import START_THRESHOLD, HandRule
from tuner.quality.metrics import mse, psnr
from tuner.run.runner import Runner
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
def dense_matching(_: Runner) -> Iterator[None]:
    """Match by the whole distance matrix of each head; the plain side matches nothing."""

    def match(features: torch.Tensor, partition: Partition, *_: object) -> tuple[torch.Tensor, torch.Tensor]:
        heads = features.flatten(0, 1)
        found = [dense_match(head[None, None], partition) for head in heads]
        shape = (*features.shape[:2], partition.src.numel())
        # `Match.of` sorts distances, farthest first; the place in the dense order stands for them.
        distance = torch.stack([-order.argsort().float() for order, _ in found])
        return distance.view(shape), torch.stack([slot for _, slot in found]).int().view(shape)

    with patch.object(asymrnr.reduction, "match_tokens", match):
        yield


def measure(runner: Runner, methods: dict[str, Schedule], rounds: int) -> dict[str, list[Beside]]:
    """Every method beside plain, once a round."""
    prompts, twin = runner.entry.held_out_prompts(rounds), twin_of(runner)
    warm_up(runner, twin, prompts[0])
    found: dict[str, list[Beside]] = {name: [] for name in methods}
    for index in track(range(rounds), description="generating"):
        for name, schedule in methods.items():
            install = dense_matching if name == DENSE else None
            found[name].append(beside_plain(runner, twin, prompts[index], FIRST_SEED + index, schedule, install))
    return found


def judged(found: dict[str, list[Beside]], methods: dict[str, Schedule], model: LatencyModel) -> list[Row]:
    """Rows of a run."""
    logs = {name: np.array([beside.estimate.log_speedup for beside in runs]) for name, runs in found.items()}
    rows = []
    for name, schedule in methods.items():
        predicted = model.speedup(schedule)
        text = f"{typical_text(logs[name].tolist(), '{:.3f}x')} of {predicted:.3f}x predicted"
        target = TARGET if name == "tuned" else None
        value, _, _ = typical(logs[name].tolist())
        detail = {
            "speedups": np.exp(logs[name]).tolist(),
            "disturbed": sum(beside.estimate.disturbed for beside in found[name]),
        }
        rows.append(
            judge(name, "realised / predicted speed-up", value / predicted, text=text, at_least=target, **detail)
        )
        pairs = [(beside.method.video, beside.plain.video) for beside in found[name]]
        decibels = float(np.mean([psnr(a, b) for a, b in pairs]))
        text = f"MSE {np.mean([mse(a, b) for a, b in pairs]):.3g}"
        rows.append(judge(name, "PSNR to plain (dB)", decibels, text=text))
    relative = {"plain": -logs["tuned"], **{name: logs[name] - logs["tuned"] for name in methods if name != "tuned"}}
    rows += [
        judge("tuned", f"time / {name}", typical(ratios.tolist())[0], text=typical_text(ratios.tolist()))
        for name, ratios in relative.items()
    ]
    return rows


def main() -> None:
    arguments = parse_arguments(__doc__, "generation", rounds=6)
    runner = load_runner(arguments.device, arguments.quick)
    steps = runner.entry.workload.steps
    tuned = shipped_schedule(steps)
    model = machine_model(runner, [tuned])
    methods = {"tuned": tuned, DENSE: tuned}
    by_hand = heuristic(model, tuned, steps)
    notes = [f"{MODEL}, {steps} steps; denoising time only. In brackets 95 % t intervals over prompts."]
    if by_hand is None:
        notes.append("The heuristic cannot reach the predicted speed of the tuned schedule.")
    else:
        methods["heuristic (Appendix B)"] = by_hand
    rounds = min(arguments.rounds, 2) if arguments.quick else arguments.rounds
    report(judged(measure(runner, methods, rounds), methods, model), arguments, notes)


if __name__ == "__main__":
    main()
