"""How much should errors of early and late steps weigh? Searched schedules under several weights, on tuning prompts.

    python benchmarks/steering.py --profile runs/tiny-cogvideox-x1.20/profile.safetensors [--prompts 3] [--device cuda]

Held-out prompts are not looked at. Nothing is timed: speeds are the latency model's. Writes
`benchmarks/results/steering-STEPS.json`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from embedded import MODEL, decibels, keep_results
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tuner.models import find_model, load_pipeline
from tuner.profile.profile import Profile
from tuner.quality.metrics import mse
from tuner.run.runner import Runner
from tuner.search.memory import KINDS, MemorySolver
from tuner.search.space import load_space_of

WEIGHTS: dict[str, tuple[float, ...]] = {
    "all alike": (0.0,),
    "default": (3.0, 1.4, 1.0, 0.0, 2.8),
    "half as steep": (1.5, 0.7, 0.5, 0.0, 2.8),
    "steeper": (5.0, 3.0, 1.6, 0.4, 2.8),
    "early alone": (5.0, 0.0, 0.0, 0.0, 2.0),
    "early, late alike": (3.0, 1.4, 1.0, 0.0, 0.0),
}
FIRST_SEED = 1_001


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--speedups", type=float, nargs="+", default=[1.2, 1.35, 1.8])
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    profile = Profile.load(arguments.profile)
    entry = find_model(MODEL).with_workload(steps=profile.steps)
    runner, space = Runner(load_pipeline(MODEL, arguments.device), entry), load_space_of(entry)
    assert profile.latency is not None
    prompts = entry.tuning_prompts(1 + arguments.prompts)[1:]  # the first one was profiled
    seeds = range(FIRST_SEED, FIRST_SEED + len(prompts))
    plain = [runner.generate(p, s).video for p, s in track(list(zip(prompts, seeds, strict=True)), "plain")]
    table, rows = Table("weights", "kind", *(f"{speedup:g}x" for speedup in arguments.speedups)), []
    for name, steering in track(WEIGHTS.items(), "weights"):
        solver = MemorySolver(profile, profile.latency, space.model_copy(update={"steering": steering}))
        for sharing in KINDS:
            found = []
            for speedup in arguments.speedups:
                schedule = solver.schedule(solver.plan(sharing, speedup))
                errors = [
                    mse(runner.generate(prompt, seed, schedule).video, reference)
                    for prompt, seed, reference in zip(prompts, seeds, plain, strict=True)
                ]
                found.append(decibels(errors))
                rows.append({"weights": name, "sharing": sharing, "speedup": speedup, "mse": errors})
            table.add_row(name, KINDS[sharing], *(f"{value:.1f} dB" for value in found))
    Console().print(table)
    keep_results(f"steering-{profile.steps}", prompts, rows)


if __name__ == "__main__":
    main()
