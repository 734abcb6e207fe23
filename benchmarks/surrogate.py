"""Does the surrogate rank schedules as their videos do? And how much should early and late errors weigh?

    python benchmarks/surrogate.py --profile runs/tiny-cogvideox-x1.20/profile.safetensors [--prompts 8]
    python benchmarks/surrogate.py --profile ... --part 1/8 --device cuda --output runs/surrogate/1
    python benchmarks/surrogate.py --profile ... --from runs/surrogate/*


Schedules of every kind are searched for several speeds, under the settings the tuner uses and under others, and some
are drawn at random; all of them restore with memory, broadcast, or leave all blocks out. What is predicted of each, by
the tuner's own yardstick, is held against the mean squared error of its videos of tuning prompts other than the
profiled one. Held-out prompts are not looked at, and nothing is timed: speeds are the latency model's. The second
command generates a part of the prompts alone, wherever that is fast; the third one writes the document of all parts.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from embedded import titled
from kept_results import Results, part_of, rows_of
from surrogate_report import write
from videos import measure_videos

from asymrnr.schedule import Schedule
from tuner.models import find_model, load_pipeline
from tuner.profile.profile import Profile
from tuner.run.identity import environment, subject
from tuner.run.runner import Runner
from tuner.search.memory import KINDS, MemorySolver
from tuner.search.space import SearchSpace, load_space_of
from tuner.search.windows import FULL, Plan, WindowProblem, evaluate

ROOT = Path(__file__).parents[1]
SPEEDUPS = (1.1, 1.2, 1.35, 1.6, 2.0)
RANDOM, LONGEST = 24, 4  # schedules, and steps that a window of theirs goes on for
FIRST_SEED = 1_001
REUSED = "blocks left out, "
USUAL = "as the tuner"
HEAVY: float = SearchSpace.model_fields["reuse_weight"].default
SETTINGS: dict[str, dict[str, Any]] = {
    USUAL: {},
    "all steps alike": {"length_power": 0.0},
    "by the square of their length": {"length_power": 2.0},
    "early ones more": {"steering": (1.5, 0.7, 0.5, 0.0, 0.0)},
    "early ones far more": {"steering": (3.0, 1.4, 1.0, 0.0, 0.0)},
    "blocks alike": {"memory_trust": 0.0},
    "half of what sets blocks apart": {"memory_trust": 0.5},
    "blocks as measured": {"memory_trust": 1.0},
    REUSED + USUAL: {"reuse": True},
    REUSED + "a third of the weight": {"reuse": True, "reuse_weight": HEAVY - 1},
    REUSED + "three times the weight": {"reuse": True, "reuse_weight": HEAVY + 1},
}


@dataclass(frozen=True)
class Trial:
    """A schedule and what is predicted of it by the tuner's yardstick."""

    setting: str
    kind: str
    aim: float
    schedule: Schedule
    loss: float
    speedup: float

    @property
    def name(self) -> str:
        return self.schedule.content_hash()


def trials(profile: Profile, space: SearchSpace) -> list[Trial]:
    """Everything to generate with; a schedule may come about in several ways."""
    assert profile.latency is not None
    model = profile.latency
    yardstick = MemorySolver(profile, model, space.model_copy(update={"reuse": True}))
    found: list[Trial] = []

    def add(setting: str, kind: str, aim: float, plan: Plan) -> None:
        judged = evaluate(yardstick.problem, plan.length, plan.program, plan.reused)
        schedule = yardstick.schedule(judged)
        found.append(Trial(setting, kind, aim, schedule, judged.loss, model.speedup(schedule)))

    for setting, changed in SETTINGS.items():
        if changed.get("reuse") and profile.extrapolation_error is None:
            continue
        solver = MemorySolver(profile, model, space.model_copy(update=changed))
        for aim in SPEEDUPS:
            for sharing, kind in KINDS.items():
                # The same window again and again hardly depends on these settings.
                if aim <= solver.attainable and (sharing != "windows" or setting == USUAL):
                    add(setting, kind, aim, solver.plan(sharing, aim))
    rng = np.random.default_rng(0)
    for _ in range(RANDOM):
        add("drawn at random", "random windows", 0.0, random_plan(yardstick.problem, rng))
    return found


def random_plan(problem: WindowProblem, rng: np.random.Generator) -> Plan:
    """Windows of random lengths in which a random share of the blocks does something, each at random."""
    length, program = np.zeros(problem.steps, dtype=int), np.full((problem.blocks, problem.steps), FULL)
    reused = np.zeros(problem.steps, dtype=bool)
    busy, leaving, step = rng.uniform(0.2, 1.0), rng.uniform(0.0, 0.5), int(rng.integers(1, 4))
    while step < problem.steps - 1:
        length[step] = min(rng.integers(1, LONGEST + 1), problem.steps - 1 - step)
        if problem.reuse_loss is not None and rng.random() < leaving:
            reused[step] = True
        else:
            chosen = rng.integers(len(problem.programs), size=problem.blocks)
            program[:, step] = np.where(rng.random(problem.blocks) < busy, chosen, FULL)
        step += int(length[step]) + 1 + int(rng.integers(0, 3))
    length[(program == FULL).all(axis=0) & ~reused] = 0
    return evaluate(problem, length, program, reused)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--part", default="1/1", help="which of how many parts of the prompts")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, help="folder of what is finished; by default runs/surrogate-STEPS")
    parser.add_argument("--from", type=Path, nargs="+", dest="parts", help="folders of parts: only write the document")
    arguments = parser.parse_args()
    profile = Profile.load(arguments.profile)
    entry = find_model(profile.model).with_workload(steps=profile.steps)
    every = trials(profile, load_space_of(entry))
    prompts = entry.tuning_prompts(1 + arguments.prompts)[1:]  # the first one was profiled
    pairs = [(prompt, FIRST_SEED + i) for i, prompt in enumerate(prompts)]
    title = titled("surrogate", entry.name, profile.steps)
    folder = arguments.output or Path("runs") / title
    runner = Runner(load_pipeline(entry.name, arguments.device), entry)
    head = {"kind": "head", "environment": environment(), "subject": subject(runner)}
    if arguments.parts is None:
        results = Results(folder, head)
        schedules = {trial.name: trial.schedule for trial in every}
        measure_videos(runner, schedules, part_of(pairs, arguments.part), results)
        rows = results.rows
    else:
        rows = [head, *rows_of(arguments.parts, head["subject"])]
    if arguments.part == "1/1":
        write(every, rows, shlex.join(["python", *sys.argv]), ROOT / "docs" / f"{title}.md")


if __name__ == "__main__":
    main()
