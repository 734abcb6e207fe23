"""The installed runtime at rate 0 against the plain pipeline, on the embedded model.

    python benchmarks/overhead.py

Every round denoises a few steps with each, in alternating order; installing and removing are part of it. Many short
rounds, because the pace of a machine changes within a generation by more than what is to be seen. Writes
`benchmarks/results/overhead.json`.
"""

from __future__ import annotations

import numpy as np
from embedded import MODEL, load_runner
from rich.progress import track
from timing import compare, parse_arguments, report, time_interleaved

import asymrnr
from asymrnr.adapters import find_adapter
from asymrnr.install import find_sites
from asymrnr.schedule import Schedule

TARGET = 1.01
STEPS = 2
FEATURES = (("Q", "V"), ("H", "Q", "V"))


def main() -> None:
    arguments = parse_arguments(__doc__, "overhead", rounds=40)
    runner = load_runner(arguments.device, arguments.quick)
    steps = runner.entry.workload.steps
    prompt = runner.entry.tuning_prompts(1)[0]
    blocks = len(find_sites(runner.denoiser, find_adapter(runner.denoiser)))

    def plain() -> None:
        runner.time_steps(STEPS, prompt)

    rows = []
    for features in track(FEATURES, description="overhead"):
        schedule = Schedule(rates={feature: np.zeros((blocks, steps)) for feature in features})

        def installed(schedule: Schedule = schedule) -> None:
            with asymrnr.apply(runner.pipe, schedule):
                runner.time_steps(STEPS, prompt)

        times = time_interleaved({"installed": installed, "plain": plain}, arguments.rounds)
        case = f"{MODEL}, {STEPS} steps, {' '.join(features)} at rate 0"
        rows.append(compare(case, times["installed"], "plain", times["plain"], TARGET))
    report(rows, arguments, ["Text encoding is part of both sides; nothing is decoded."])


if __name__ == "__main__":
    main()
