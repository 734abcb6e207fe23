"""The installed runtime at rate 0 against the plain pipeline, on the embedded model.

    python benchmarks/overhead.py

Every round denoises one video with each, in alternating order; installing and removing are part of it. Writes
`benchmarks/results/overhead.json`.
"""

from __future__ import annotations

import numpy as np
from rich.progress import track
from timing import compare, parse_arguments, report, time_interleaved

import asymrnr
from asymrnr.adapters import find_adapter
from asymrnr.install import find_sites
from asymrnr.schedule import Schedule
from tuner.models import REGISTRY, load_pipeline
from tuner.runner import Runner

MODEL = "tiny-cogvideox"
TARGET = 1.01
QUICK_STEPS = 2
FEATURES = (("Q", "V"), ("H", "Q", "V"))


def main() -> None:
    arguments = parse_arguments(__doc__, "overhead", rounds=9)
    runner = Runner(load_pipeline(MODEL, arguments.device), REGISTRY[MODEL])
    steps = QUICK_STEPS if arguments.quick else runner.entry.workload.steps
    prompt = runner.entry.tuning_prompts(1)[0]
    blocks = len(find_sites(runner.denoiser, find_adapter(runner.denoiser)))

    def plain() -> None:
        runner.time_steps(steps, prompt)

    rows = []
    for features in track(FEATURES, description="overhead"):
        schedule = Schedule(rates={feature: np.zeros((blocks, steps)) for feature in features})

        def installed(schedule: Schedule = schedule) -> None:
            with asymrnr.apply(runner.pipe, schedule):
                runner.time_steps(steps, prompt)

        times = time_interleaved({"installed": installed, "plain": plain}, arguments.rounds)
        case = f"{MODEL}, {steps} steps, {' '.join(features)} at rate 0"
        rows.append(compare(case, times["installed"], "plain", times["plain"], TARGET))
    report(rows, arguments, ["Text encoding is part of both sides; nothing is decoded."])


if __name__ == "__main__":
    main()
