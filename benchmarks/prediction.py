"""Predicted against measured denoising time of ten random schedules on the embedded model.

    python benchmarks/prediction.py

The latency model is measured on this machine first, as a tuning run does. Every schedule then runs twice, between
plain generations; the measured time is corrected by how much slower or faster those were than the model's plain time,
because the target is about the model and not about a drift of the machine. Writes
`benchmarks/results/prediction.json`.
"""

from __future__ import annotations

import numpy as np
from embedded import load_profile, load_runner, machine_model, shorten
from proxies import KINDS, random_schedule
from rich.progress import track
from timing import Row, judge, parse_arguments, report

from asymrnr.schedule import Schedule
from tuner.latency.model import LatencyModel
from tuner.run.runner import Runner

SCHEDULES, QUICK_SCHEDULES = 10, 2
TARGET = 0.05
SEED = 9_500_000


def measure(runner: Runner, schedules: list[Schedule], rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Denoising seconds (rounds, schedules), and the plain seconds around each, of the same shape."""
    prompt = runner.entry.held_out_prompts(1)[0]

    def seconds(schedule: Schedule | None) -> float:
        return float(runner.generate(prompt, SEED, schedule).step_seconds.sum())

    seconds(None)  # warm up
    reduced, plain = np.zeros((2, rounds, len(schedules)))
    before = seconds(None)
    for index in track(range(rounds * len(schedules)), description="generating"):
        place = divmod(index, len(schedules))
        reduced[place] = seconds(schedules[place[1]])
        after = seconds(None)
        plain[place] = (before + after) / 2
        before = after
    return reduced, plain


def judged(schedules: list[Schedule], model: LatencyModel, reduced: np.ndarray, plain: np.ndarray) -> list[Row]:
    """A row a schedule, then the median and the worst."""
    rows, errors = [], []
    drift = plain / model.baseline_seconds
    for i, schedule in enumerate(schedules):
        predicted, measured = model.predict(schedule), float(np.median(reduced[:, i] / drift[:, i]))
        errors.append(abs(predicted / measured - 1))
        raw = predicted / float(np.median(reduced[:, i])) - 1
        text = f"predicted {predicted:.3f} s, measured {measured:.3f} s; {raw:+.1%} without the correction"
        name = f"schedule {i + 1}, {KINDS[i % len(KINDS)]}, attention {schedule.attention_cost():.2f}"
        detail = {"measured_seconds": reduced[:, i].tolist(), "plain_seconds": plain[:, i].tolist()}
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
    model = machine_model(runner, runner.entry.tuning_prompts(1)[0], schedules)
    reduced, plain = measure(runner, schedules, arguments.rounds)
    report(judged(schedules, model, reduced, plain), arguments, [])


if __name__ == "__main__":
    main()
