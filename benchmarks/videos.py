"""Videos of many schedules against the plain ones, one prompt after the other, with what is finished kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from frontier import LEAST_ERROR
from kept_results import Results
from rich.progress import track

from asymrnr.schedule import Schedule
from tuner.quality.metrics import mse
from tuner.run.runner import Runner


def measure_videos(
    runner: Runner, schedules: Mapping[str, Schedule], pairs: Sequence[tuple[str, int]], results: Results
) -> None:
    """Generate what is left, and keep the mean squared error of every video.

    Args:
        runner: the model.
        schedules: by the names that results go by.
        pairs: prompts and seeds.
        results: what is finished.
    """
    for prompt, seed in pairs:
        where = {"prompt": prompt, "seed": seed}
        todo = {name: each for name, each in schedules.items() if not results.has(schedule=name, **where)}
        plain = runner.generate(prompt, seed).video if todo else None
        for name, schedule in track(todo.items(), prompt):
            assert plain is not None
            error = max(mse(runner.generate(prompt, seed, schedule).video, plain), LEAST_ERROR)
            results.add({"kind": "video", "schedule": name, **where, "mse": error, "device": str(runner.device)})
