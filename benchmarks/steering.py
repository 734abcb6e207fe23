"""What leaving out steps of the denoiser does to the video, step by step: the origin of `SearchSpace.reuse_weights`.

    python benchmarks/steering.py --profile runs/tiny-cogvideox-x1.20/profile.safetensors [--prompts 4]
    python benchmarks/steering.py --profile ... --device cuda --output runs/steering/1 --part 1/4
    python benchmarks/steering.py --profile ... --prompts 8 --only 1 2 3 4 5 6 7 8 9
    python benchmarks/steering.py --profile ... --from runs/steering/*

Videos are generated with one, two or three steps in a row left out and everything else in full, and a few with
schedules that only restore with memory and broadcast. The latter say which mean squared error of a video belongs to a
predicted loss of 1; the former, in this unit, how much the error of an extrapolated output weighs at every step. Of
several steps left out in a row is asked whether amplitudes add up. Prompts are tuning prompts other than the profiled
one; the third command looks at more of them with single steps left out. Nothing is timed. Writes
`docs/steering-STEPS.md`.
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
from embedded import titled
from kept_results import Results, part_of, rows_of
from videos import measure_videos

from asymrnr.partner import Partner
from asymrnr.schedule import Schedule
from tuner.models import find_model, load_pipeline
from tuner.profile.profile import Profile
from tuner.run.identity import environment, subject
from tuner.run.runner import Runner
from tuner.search.memory import MemorySolver
from tuner.search.space import SearchSpace, load_space_of, step_lengths

ROOT = Path(__file__).parents[1]
SPEEDUPS = (1.1, 1.2, 1.35, 1.6)  # of the schedules that leave out no steps
ROWS = (1, 2, 3)  # steps left out in a row
FIRST_SEED = 2_001
LEAST = 1e-12  # relative squared errors below it are rounding


def left_out(profile: Profile, first: int, count: int) -> Schedule:
    """Everything in full but for some steps in a row."""
    out = np.zeros(profile.steps, dtype=bool)
    out[first : first + count] = True
    return Schedule(
        rates={"Q": np.zeros((profile.blocks, profile.steps))},
        partner=Partner.planned(out),
        timesteps=tuple(profile.timesteps.tolist()),
        seed=profile.schedule_seed,
    )


def everything(profile: Profile, space: SearchSpace) -> dict[str, tuple[Schedule, float]]:
    """Schedules by what is done, each with its predicted loss; NaN where steps are left out."""
    assert profile.latency is not None
    solver = MemorySolver(profile, profile.latency, space)
    found: dict[str, tuple[Schedule, float]] = {}
    for speedup in SPEEDUPS:
        if speedup <= solver.attainable:
            plan = solver.plan("refreshes", speedup)
            found[f"no step left out, {speedup:g}x"] = solver.schedule(plan), plan.loss
    for count in ROWS:
        for first in range(1, profile.steps - count + 1, count):
            found[name(first, count)] = left_out(profile, first, count), np.nan
    return found


def name(first: int, count: int) -> str:
    return f"{count} left out from step {first} on"


def relative_errors(profile: Profile, first: int, count: int) -> np.ndarray:
    """(count,) squared error of the extrapolated outputs, as profiled."""
    assert profile.extrapolation_error is not None
    found = [profile.extrapolation_error[first + i, i, 0] for i in range(count)]
    return np.maximum(np.array(found), LEAST)


def errors_of(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Logarithms of mean squared errors by schedule and prompt."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["kind"] == "video":
            found.setdefault(row["schedule"], {})[row["prompt"]] = float(np.log(row["mse"]))
    return found


def write(profile: Profile, space: SearchSpace, rows: Sequence[dict[str, Any]], command: str, path: Path) -> None:
    """The document; schedules count on the prompts that they were generated for."""
    errors, units = errors_of(rows), {}
    plain = {n: loss for n, (_, loss) in everything(profile, space).items() if np.isfinite(loss)}
    for prompt in {prompt for by in errors.values() for prompt in by}:
        ratios = [errors[n][prompt] - np.log(loss) for n, loss in plain.items() if prompt in errors.get(n, {})]
        units[prompt] = float(np.mean(ratios))

    def over_unit(first: int, count: int) -> np.ndarray:
        """(prompts,) logarithms of errors, where a loss of 1 is 0."""
        return np.array([error - units[prompt] for prompt, error in errors[name(first, count)].items()])

    steps = np.arange(1, profile.steps)
    single = [over_unit(s, 1) - np.log(relative_errors(profile, s, 1)[0]) for s in steps]
    usual = np.array([each.mean() for each in single])
    spread = np.array([each.std(ddof=1) if len(each) > 1 else 0.0 for each in single])
    twice = 2 * np.log(step_lengths(profile.levels))[steps]
    rest = usual - twice
    numbers = dict.fromkeys(str(number(map(len, single))) for number in (min, max))
    lines = [
        "# What leaving out a step does to the video",
        "",
        f"`{command}`",
        "",
        paragraph(
            f"{profile.steps} steps, {' to '.join(numbers)} tuning prompts other than the profiled one. What a step "
            "does is the logarithm of the video's mean squared error over the relative "
            "squared error of the extrapolated output, in the unit in which the loss of a schedule that only restores "
            "with memory and broadcasts is predicted: there a loss of 1 is a mean squared error of "
            f"{np.exp(np.mean(list(units.values()))):.3g} (between prompts its logarithm varies by "
            f"{np.std(list(units.values()), ddof=1):.2f}). A step's length is how much of the way from noise to clean "
            "it goes, over the mean (`tuner.search.space.step_lengths`)."
        ),
        "",
        "| step | length | PSNR with it left out | error of the output | mean | between prompts | less 2 log(length) |",
        "|---|---|---|---|---|---|---|",
    ]
    for s, mean, deviation, left in zip(steps, usual, spread, rest, strict=True):
        lines.append(
            f"| {s} | {np.exp(twice[s - 1] / 2):.2f} | {decibels(errors[name(s, 1)])} "
            f"| {relative_errors(profile, s, 1)[0]:.2e} | {mean:.2f} | {deviation:.2f} | {left:.2f} |"
        )
    lines += [
        "",
        paragraph(
            f"Over the steps the mean has a standard deviation of {usual.std(ddof=1):.2f}; less twice the logarithm of "
            f"the step's length {rest.std(ddof=1):.2f}, around {rest.mean():.2f}. In use is {space.reuse_weight:g}."
        ),
        "",
        "## Several in a row",
        "",
        paragraph(
            "Measured against predicted from the means above, as logarithms of ratios (0: as predicted), if "
            "amplitudes add up, and if squares do."
        ),
        "",
        "| steps left out | PSNR | amplitudes | squares |",
        "|---|---|---|---|",
    ]
    for count in ROWS[1:]:
        for first in range(1, profile.steps - count + 1, count):
            relative = np.log(relative_errors(profile, first, count)) + usual[first - 1 : first - 1 + count]
            measured = over_unit(first, count).mean()
            amplitudes, squares = 2 * np.log(np.exp(relative / 2).sum()), np.log(np.exp(relative).sum())
            lines.append(
                f"| {first} to {first + count - 1} | {decibels(errors[name(first, count)])} "
                f"| {measured - amplitudes:+.2f} | {measured - squares:+.2f} |"
            )
    path.write_text("\n".join([*lines, ""]))


def decibels(errors: dict[str, float]) -> str:
    """PSNR of the geometric mean."""
    return f"{-10 / np.log(10) * np.mean(list(errors.values())):.1f} dB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--part", default="1/1", help="which of how many parts of the prompts")
    parser.add_argument("--only", type=int, nargs="+", metavar="STEP", help="these steps, left out one at a time")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--output", type=Path, help="folder of what is finished; by default runs/steering-STEPS")
    parser.add_argument("--from", type=Path, nargs="+", dest="parts", help="folders of parts: only write the document")
    arguments = parser.parse_args()
    profile = Profile.load(arguments.profile)
    entry = find_model(profile.model).with_workload(steps=profile.steps)
    space, title = load_space_of(entry), titled("steering", entry.name, profile.steps)
    prompts = entry.tuning_prompts(1 + arguments.prompts)[1:]  # the first one was profiled
    pairs = [(prompt, FIRST_SEED + i) for i, prompt in enumerate(prompts)]
    runner = Runner(load_pipeline(entry.name, arguments.device), entry)
    head = {"kind": "head", "environment": environment(), "subject": subject(runner)}
    if arguments.parts is None:
        results = Results(arguments.output or Path("runs") / title, head)
        every = everything(profile, space)
        if arguments.only is not None:
            singles = [name(step, 1) for step in arguments.only]
            every = {n: each for n, each in every.items() if np.isfinite(each[1]) or n in singles}
        schedules = {n: schedule for n, (schedule, _) in every.items()}
        measure_videos(runner, schedules, part_of(pairs, arguments.part), results)
        rows = results.rows
    else:
        rows = [head, *rows_of(arguments.parts, head["subject"])]
    if arguments.part == "1/1":
        document = ROOT / "docs" / f"{title}.md"
        write(profile, space, rows, shlex.join(["python", *sys.argv]), document)


if __name__ == "__main__":
    main()
