"""How much a sampler's step should weigh by its length: the origin of `tuner.search.space.step_lengths`.

    python benchmarks/step_lengths.py --profile runs/tiny-mochi-x1.30/profile.safetensors [--prompts 3]
    python benchmarks/step_lengths.py --from benchmarks/results/step-lengths-*

Schedules that restore with memory and broadcast, and tables that copy, are made with weights of the steps that go with
no, the first, the second power of their length, everything else being equal, for the same predicted speeds; of each the
mean squared error of its videos of tuning prompts other than the profiled one. Held-out prompts are not looked at, and
nothing is timed: speeds are those that the profile's latency model predicts. The first command measures one model into
`benchmarks/results/step-lengths-MODEL`; the second one writes `docs/step-lengths.md` of all of them.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from alternatives_report import paragraph
from embedded import decibels
from kept_results import Results, Row, kept, machine_text
from videos import measure_videos

from asymrnr.schedule import Schedule
from tuner.models import find_model, load_pipeline
from tuner.profile.profile import Profile
from tuner.run.identity import environment, subject
from tuner.run.runner import Runner
from tuner.search.error import ErrorModel
from tuner.search.memory import MemorySolver
from tuner.search.space import SearchSpace, load_space_of, step_lengths
from tuner.search.table import TableSolver

ROOT = Path(__file__).parents[1]
POWERS = (0.0, 1.0, 2.0)
IN_USE = 1
SPEEDUPS = (1.25, 1.45)
COPIED_SPEEDUPS = (1.2,)
FIRST_SEED = 3_001
MEMORY, COPYING = "memory and broadcasting", "copying by tables"


class Powered(SearchSpace):
    """The same space with steps that weigh by another power of their length."""

    power: float

    def step_weights(self, timesteps: np.ndarray) -> np.ndarray:
        return super().step_weights(timesteps) * self._instead(timesteps)

    def steering_weights(self, timesteps: np.ndarray) -> np.ndarray:
        return super().steering_weights(timesteps) * self._instead(timesteps)

    def _instead(self, timesteps: np.ndarray) -> np.ndarray:
        weights: np.ndarray = step_lengths(timesteps) ** (self.power - 1)
        return weights


def name(kind: str, speedup: float, power: float) -> str:
    return f"{kind}, {speedup:g}x, power {power:g}"


def schedules(profile: Profile, space: SearchSpace) -> dict[str, Schedule]:
    """By what they are and what they were made with."""
    assert profile.latency is not None
    found: dict[str, Schedule] = {}
    for power in POWERS:
        powered = Powered(**space.model_dump(), power=power)
        solver = MemorySolver(profile, profile.latency, powered)
        for speedup in SPEEDUPS:
            found[name(MEMORY, speedup, power)] = solver.schedule(solver.plan("refreshes", speedup))
        errors = ErrorModel(profile, powered.step_weights(profile.timesteps), trust=space.trusts[0])
        tables, site = TableSolver(errors, profile.latency), (space.strides[0], space.cache_steps[0])
        for speedup in COPIED_SPEEDUPS:
            found[name(COPYING, speedup, power)] = tables.schedule(tables.assign(speedup, *site)[0], *site)
    return found


def tabled(model: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    """Rows of the table: one for every kind and speed."""
    lines = []
    for kind, speedup in [(MEMORY, s) for s in SPEEDUPS] + [(COPYING, s) for s in COPIED_SPEEDUPS]:
        errors = [
            [row["mse"] for row in rows if row["kind"] == "video" and row["schedule"] == name(kind, speedup, power)]
            for power in POWERS
        ]
        cells = " | ".join(f"{decibels(each):.1f}" for each in errors)
        ratios = np.log(np.array(errors[IN_USE]) / np.array(errors[0]))
        signs = f"{(ratios < 0).sum()} of {len(ratios)}"
        lines.append(f"| {model} | {kind}, {speedup:g}x | {cells} | {np.exp(ratios.mean()):.2g} | {signs} |")
    return lines


def write(runs: Sequence[Sequence[dict[str, Any]]], path: Path) -> None:
    """The document."""
    machines = "; ".join(
        f"{rows[0]['subject']['model']}: {machine_text(rows[0]['environment'])}, longest step "
        f"{rows[0]['longest']:.2g} times the mean, shortest {rows[0]['shortest']:.2g} times"
        for rows in runs
    )
    lines = [
        "# What a sampler's step weighs by its length",
        "",
        paragraph(
            f"Written by `{shlex.join(['python', *sys.argv])}`. Schedules for the same predicted speed, made with "
            "weights of the steps that go with no, the first and the second power of their length (the first is in "
            "use, `tuner.search.space.step_lengths`), on tuning prompts that were not profiled: PSNR in dB of the "
            "geometric mean of the mean squared errors to the plain video, and on how many prompts weights by length "
            f"do better than weights that do not go by it. {machines}."
        ),
        "",
        "| model | schedule | not by length | length | length squared | error, length over not | better on |",
        "|---|---|---|---|---|---|---|",
        *(line for rows in runs for line in tabled(rows[0]["subject"]["model"], rows)),
        "",
    ]
    path.write_text("\n".join(lines))


def asked(description: str | None, least: int = 1) -> argparse.Namespace:
    """The arguments: a profile to measure with, or `parts`, at least so many folders to write the document of."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--from", type=Path, nargs="+", dest="parts", help="folders of results: write the document")
    arguments = parser.parse_args()
    if arguments.parts is None and arguments.profile is None:
        parser.error("give --profile, or --from")
    if arguments.parts is not None and len(arguments.parts) < least:
        parser.error(f"--from needs {least} models at least")
    return arguments


def opened(arguments: argparse.Namespace) -> tuple[Profile, Runner, Row, list[tuple[str, int]]]:
    """The profile, its model, the first row of results on it, and prompts that were not profiled, with seeds."""
    profile = Profile.load(arguments.profile)
    entry = find_model(profile.model).with_workload(steps=profile.steps)
    lengths = step_lengths(profile.timesteps)
    runner = Runner(load_pipeline(entry.name, arguments.device), entry)
    head = {"kind": "head", "environment": environment(), "subject": subject(runner)}
    head |= {"longest": float(lengths.max()), "shortest": float(lengths.min())}
    prompts = entry.tuning_prompts(1 + arguments.prompts)[1:]  # the first one was profiled
    return profile, runner, head, [(prompt, FIRST_SEED + i) for i, prompt in enumerate(prompts)]


def main() -> None:
    arguments = asked(__doc__)
    if arguments.parts is not None:
        write([kept(folder) for folder in arguments.parts], ROOT / "docs" / "step-lengths.md")
        return
    profile, runner, head, pairs = opened(arguments)
    results = Results(ROOT / "benchmarks" / "results" / f"step-lengths-{runner.entry.name}", head)
    measure_videos(runner, schedules(profile, load_space_of(runner.entry)), pairs, results)


if __name__ == "__main__":
    main()
