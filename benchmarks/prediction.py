"""Predicted against measured denoising time of ten random schedules on the embedded model.

    python benchmarks/prediction.py

The latency model is measured on this machine first, as a tuning run does. Every schedule is then generated with beside
the plain pipeline in lock-step, once a round, because the model is about the time relative to a plain generation and
not about a drift of the machine. Writes `benchmarks/results/prediction.json`.
"""

from __future__ import annotations

import numpy as np
from embedded import load_profile, load_runner, machine_model, shorten
from lockstep_methods import beside_plain, twin_of, typical, warm_up
from proxies import KINDS, random_schedule
from rich.progress import track
from timing import Row, judge, parse_arguments, report

from asymrnr.schedule import Schedule
from tuner.latency.model import LatencyModel
from tuner.run.estimate import PairEstimate
from tuner.run.runner import Runner

SCHEDULES, QUICK_SCHEDULES = 10, 2
TARGET = 0.05
SEED = 9_500_000


def measure(runner: Runner, schedules: list[Schedule], rounds: int) -> list[list[PairEstimate]]:
    """What every schedule shows, once a round."""
    prompt, twin = runner.entry.held_out_prompts(1)[0], twin_of(runner)
    warm_up(runner, twin, prompt)
    found: list[list[PairEstimate]] = [[] for _ in schedules]
    for index in track(range(rounds * len(schedules)), description="generating"):
        number = index % len(schedules)
        found[number].append(beside_plain(runner, twin, prompt, SEED, schedules[number]).estimate)
    return found


def judged(schedules: list[Schedule], model: LatencyModel, measured: list[list[PairEstimate]]) -> list[Row]:
    """A row a schedule, then the median and the worst."""
    rows, errors = [], []
    for i, (schedule, estimates) in enumerate(zip(schedules, measured, strict=True)):
        predicted, (speedup, _, _) = model.speedup(schedule), typical([e.log_speedup for e in estimates])
        errors.append(abs(speedup / predicted - 1))  # predicted over measured time
        low, high = model.speedup_interval(schedule)
        text = f"predicted {predicted:.3f}x ({low:.3f} to {high:.3f}), measured {speedup:.3f}x"
        name = f"schedule {i + 1}, {KINDS[i % len(KINDS)]}, attention {schedule.attention_cost():.2f}"
        detail = {"speedups": [e.speedup for e in estimates], "standard_errors": [e.standard_error for e in estimates]}
        rows.append(judge(name, "|predicted / measured - 1|", errors[-1], TARGET, text, **detail))
    rows.append(judge("all schedules", "median |predicted / measured - 1|", float(np.median(errors)), TARGET))
    rows.append(judge("all schedules", "worst |predicted / measured - 1|", max(errors), TARGET))
    return rows


def main() -> None:
    arguments = parse_arguments(__doc__, "prediction", rounds=2)
    runner = load_runner(arguments.device, arguments.quick)
    profile, rng = load_profile(), np.random.default_rng(0)
    count = QUICK_SCHEDULES if arguments.quick else SCHEDULES
    kinds = [KINDS[i % len(KINDS)] for i in range(count)]
    schedules = [shorten(random_schedule(profile, kind, rng), runner.entry.workload.steps) for kind in kinds]
    model = machine_model(runner, schedules)
    report(judged(schedules, model, measure(runner, schedules, arguments.rounds)), arguments, [])


if __name__ == "__main__":
    main()
