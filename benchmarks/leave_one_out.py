"""Settings that a model chooses for itself against those that the other models choose for it.

    python benchmarks/leave_one_out.py --profile runs/tiny-mochi-x1.30/profile.safetensors [--prompts 3]
    python benchmarks/leave_one_out.py --from benchmarks/results/leave-one-out-*

Settings of the search that every model inherits are varied one at a time. With each value, schedules are made for the
same predicted speeds, and generate tuning prompts other than the profiled one; held-out prompts are not looked at, and
nothing is timed: speeds are those that the profile's latency model predicts. The first command measures one model into
`benchmarks/results/leave-one-out-MODEL-STEPS`, and may be interrupted; the second one writes `docs/leave-one-out.md`.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from alternatives_report import paragraph
from embedded import decibels
from kept_results import Results, Row, kept, machine_text
from tables import table
from videos import measure_videos

from asymrnr.schedule import Schedule
from tuner.models import find_model, load_pipeline
from tuner.profile.profile import Profile
from tuner.run.identity import environment, subject
from tuner.run.runner import Runner
from tuner.search.error import ErrorModel
from tuner.search.memory import MemorySolver
from tuner.search.result import Sharing
from tuner.search.space import SearchSpace, load_space_of, step_lengths
from tuner.search.table import TableSolver
from tuner.search.trust import Trust

ROOT = Path(__file__).parents[1]
MEMORY, COPYING = "memory and broadcasting", "copying by tables"
SPEEDUPS = {MEMORY: (1.25, 1.45), COPYING: (1.2,)}
IN_USE = "as in use"
FIRST_SEED = 3_001


@dataclass(frozen=True)
class Setting:
    """What is varied.

    Attributes:
        name: what it is, as the document says it.
        values: tried; one of them is in use.
        in_use: that one.
        kinds: of schedules that it concerns.
        changed: the space with another value.
    """

    name: str
    values: tuple[float, ...]
    in_use: float
    kinds: tuple[str, ...]
    changed: Callable[[SearchSpace, float], SearchSpace]

    def schedule(self, kind: str, speedup: float, value: float) -> str:
        """The name that results go by."""
        return f"{kind}, {speedup:g}x, " + (IN_USE if value == self.in_use else f"{self.name} {value:g}")


def _set(field: str) -> Callable[[SearchSpace, float], SearchSpace]:
    return lambda space, value: space.model_copy(update={field: value})


def _steered(space: SearchSpace, times: float) -> SearchSpace:
    return space.model_copy(update={"steering": tuple(times * each for each in space.steering)})


STEERING = Setting("steering, times", (0.0, 0.5, 1.0), 0.0, (MEMORY,), _steered)
SETTINGS = (
    Setting("length_power", (0.0, 1.0, 2.0), 1.0, (MEMORY, COPYING), _set("length_power")),
    STEERING,
    Setting("memory_trust", (0.0, 0.25, 0.5, 1.0), 0.25, (MEMORY,), _set("memory_trust")),
    Setting(
        "trust in blocks",
        (0.0, 0.5, 1.0),
        0.5,
        (COPYING,),
        lambda space, blocks: space.model_copy(update={"trusts": (Trust(blocks=blocks),)}),
    ),
)


def schedules(profile: Profile, space: SearchSpace) -> dict[str, Schedule]:
    """By what they are and what they were made with."""
    assert profile.latency is not None
    found: dict[str, Schedule] = {}
    for setting in SETTINGS:
        for value in setting.values:
            changed = setting.changed(space, value)
            memory = MemorySolver(profile, profile.latency, changed)
            errors = ErrorModel(profile, changed.step_weights(profile.levels), trust=changed.trusts[0])
            tables, site = TableSolver(errors, profile.latency), (space.strides[0], space.cache_steps[0])
            for kind in setting.kinds:
                for speedup in SPEEDUPS[kind]:
                    name = setting.schedule(kind, speedup, value)
                    if name in found:
                        continue
                    if kind == MEMORY:
                        sharing: Sharing = "early" if setting is STEERING else "refreshes"
                        found[name] = memory.schedule(memory.plan(sharing, speedup))
                    else:
                        found[name] = tables.schedule(tables.assign(speedup, *site)[0], *site)
    return found


def without_twins(found: Mapping[str, Schedule]) -> tuple[dict[str, Schedule], dict[str, str]]:
    """Schedules that differ, and the names of the others with the name that each is the same as."""
    first: dict[str, str] = {}
    twins = {}
    for name, schedule in found.items():
        same = first.setdefault(schedule.content_hash(), name)
        if same != name:
            twins[name] = same
    return {name: schedule for name, schedule in found.items() if name not in twins}, twins


@dataclass(frozen=True)
class Bed:
    """A model and what was measured of it.

    Attributes:
        name: model and steps.
        errors: schedule to the logarithms of its mean squared errors, prompt by prompt.
    """

    name: str
    errors: dict[str, np.ndarray]

    def errors_of(self, setting: Setting, value: float) -> np.ndarray:
        """(prompts,) logarithms, in the mean over the kinds and the speeds that the setting concerns."""
        return np.mean(
            [self.errors[setting.schedule(k, speed, value)] for k in setting.kinds for speed in SPEEDUPS[k]], axis=0
        )

    def excess(self, setting: Setting, value: float) -> np.ndarray:
        """(prompts,) logarithms of the error over the one with the value in use."""
        found: np.ndarray = self.errors_of(setting, value) - self.errors_of(setting, setting.in_use)
        return found


def bed_of(rows: list[Row]) -> Bed:
    """What a folder of results says, of the prompts that every schedule has generated.

    Raises:
        SystemExit: of none.
    """
    head, found = rows[0], rows[1:]
    videos = [row for row in found if row["kind"] == "video"]
    names = {row["schedule"] for row in videos}
    prompts = list(dict.fromkeys(row["prompt"] for row in videos))
    by = {(row["schedule"], row["prompt"]): float(np.log(row["mse"])) for row in videos}
    whole = [prompt for prompt in prompts if all((name, prompt) in by for name in names)]
    if not whole:
        raise SystemExit(f"{head['subject']['model']}: no prompt is finished; go on with --profile.")
    errors = {name: np.array([by[name, prompt] for prompt in whole]) for name in names}
    errors |= {row["schedule"]: errors[row["same_as"]] for row in found if row["kind"] == "twin"}
    return Bed(f"{head['subject']['model']}, {head['subject']['workload']['steps']} steps", errors)


def chosen_by(beds: list[Bed], setting: Setting) -> float:
    """The value of least error in the mean over models; the one in use where several are alike."""
    order = sorted(setting.values, key=lambda value: value != setting.in_use)
    return min(order, key=lambda value: float(np.mean([bed.excess(setting, value).mean() for bed in beds])))


def ratio(logarithms: np.ndarray) -> str:
    """A ratio of errors, and its range over prompts."""
    low, mean, high = (f"{np.exp(each):.2g}" for each in (logarithms.min(), logarithms.mean(), logarithms.max()))
    return mean if low == high else f"{mean} ({low} to {high})"


def compared(beds: list[Bed]) -> list[str]:
    """The table: what others choose for a model against what it chooses for itself."""
    rows = []
    for setting in SETTINGS:
        for bed in beds:
            own, others = chosen_by([bed], setting), chosen_by([b for b in beds if b is not bed], setting)
            left_out = bed.errors_of(setting, others) - bed.errors_of(setting, own)
            cells = [f"{setting.in_use:g}", f"{own:g}", f"{others:g}"]
            rows.append([setting.name, bed.name, *cells, ratio(left_out), ratio(-bed.excess(setting, own))])
    head = ["setting", "model", "in use", "chosen on itself", "chosen on the others", "others over own"]
    return table([*head, "in use over own"], rows)


def detailed(beds: list[Bed]) -> list[str]:
    """The table of all values: PSNR of the geometric mean of the errors, by kind and speed."""
    rows = []
    for setting in SETTINGS:
        for value in setting.values:
            for kind in setting.kinds:
                for speedup in SPEEDUPS[kind]:
                    name = setting.schedule(kind, speedup, value)
                    cells = [f"{decibels(np.exp(bed.errors[name])):.1f}" for bed in beds]
                    rows.append([setting.name, f"{value:g}", f"{kind}, {speedup:g}x", *cells])
    return table(["setting", "value", "schedule", *(bed.name for bed in beds)], rows)


def document(runs: list[list[Row]], command: str) -> str:
    """What `docs/leave-one-out.md` says."""
    beds = [bed_of(rows) for rows in runs]
    where: dict[str, list[str]] = {}
    for bed, rows in zip(beds, runs, strict=True):
        prompts = len(next(iter(bed.errors.values())))
        said = f"{bed.name} ({prompts} prompt{'s' if prompts > 1 else ''}, guidance "
        said += f"{rows[0]['subject']['workload']['guidance_scale']:g}, longest step {rows[0]['longest']:.2g} "
        said += f"times the mean, shortest {rows[0]['shortest']:.2g} times)"
        where.setdefault(machine_text(rows[0]["environment"]), []).append(said)
    machines = " ".join(f"{', '.join(of)}: {machine}." for machine, of in where.items())
    intro = (
        f"Written by `{command}`. Settings that every model inherits, varied one at a time, everything else as in use. "
        "Of each value: schedules for the same predicted speeds, on tuning prompts that were not profiled. A model "
        "chooses the value of least mean squared error to its plain videos (geometric mean over kinds, speeds and "
        f"prompts), the others choose by the mean of their logarithms. {machines}"
    )
    what = (
        "A ratio above 1 is what a model loses with the value that the other models choose for it, or with the one in "
        "use; in brackets its range over prompts. A model's own choice is made on the prompts that it is judged by, "
        "which flatters it."
    )
    lines = ["# Settings chosen on other models", "", paragraph(intro), "", paragraph(what), "", *compared(beds), ""]
    return "\n".join([*lines, "## Every value", "", "PSNR to the plain video, in dB.", "", *detailed(beds), ""])


def asked() -> argparse.Namespace:
    """The arguments: a profile to measure with, or `parts`, folders of results to write the document of."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--prompts", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--from", type=Path, nargs="+", dest="parts", help="folders of results: write the document")
    arguments = parser.parse_args()
    if arguments.parts is None and arguments.profile is None:
        parser.error("give --profile, or --from")
    if arguments.parts is not None and len(arguments.parts) < 2:
        parser.error("--from needs two models at least: one, and another that chooses for it")
    return arguments


def opened(arguments: argparse.Namespace) -> tuple[Profile, Runner, Row, list[tuple[str, int]]]:
    """The profile, its model, the first row of results on it, and prompts that were not profiled, with seeds."""
    profile = Profile.load(arguments.profile)
    entry = find_model(profile.model).with_workload(steps=profile.steps)
    lengths = step_lengths(profile.levels)
    runner = Runner(load_pipeline(entry.name, arguments.device), entry)
    head = {"kind": "head", "environment": environment(), "subject": subject(runner)}
    head |= {"longest": float(lengths.max()), "shortest": float(lengths.min())}
    prompts = entry.tuning_prompts(1 + arguments.prompts)[1:]  # the first one was profiled
    return profile, runner, head, [(prompt, FIRST_SEED + i) for i, prompt in enumerate(prompts)]


def main() -> None:
    arguments = asked()
    if arguments.parts is not None:
        text = document([kept(folder) for folder in arguments.parts], shlex.join(["python", *sys.argv]))
        (ROOT / "docs" / "leave-one-out.md").write_text(text)
        return
    profile, runner, head, pairs = opened(arguments)
    folder = ROOT / "benchmarks" / "results" / f"leave-one-out-{runner.entry.name}-{profile.steps}"
    different, twins = without_twins(schedules(profile, load_space_of(runner.entry)))
    head |= {"schedules": {name: schedule.content_hash() for name, schedule in different.items()}}
    results = Results(folder, head)
    if results.rows[0]["schedules"] != head["schedules"]:
        raise SystemExit(f"{folder} holds results of another profile, or of other settings; remove it.")
    for name, same in twins.items():
        if not results.has(kind="twin", schedule=name):
            results.add({"kind": "twin", "schedule": name, "same_as": same})
    measure_videos(runner, different, pairs, results)


if __name__ == "__main__":
    main()
