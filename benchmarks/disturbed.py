"""Does the main job come to the same end on a machine that has other work to do?

    python benchmarks/disturbed.py                 # hours; interrupt it and start it again to go on

Runs the job again and again, on the machine as it is and while another process burns every core in bursts of 1 to 3 s
for 30 % of the time (`burner.py`), in turn and each time with another seed. Before that the shipped schedule is
measured a few times, quiet and disturbed in turn. What is finished is kept in the output folder and not done again;
`docs/disturbed.md` is written anew after every result. `results.jsonl` in the folder is all that is needed to go on, on
another machine as well; every result says where it was measured.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from burner import burning
from disturbed_report import document
from kept_results import Results, Row
from lockstep_methods import beside_plain, twin_of, warm_up
from rich.console import Console

import asymrnr
from asymrnr.artifact_io import load_artifact
from tuner.models import find_model, load_pipeline
from tuner.package import file_name
from tuner.run.identity import environment
from tuner.run.runner import Runner
from tuner.run.store import ARRAYS_NAME, LOG_NAME

ROOT = Path(__file__).parents[1]
JOB = "from tuner.cli import main; main()"
FIRST_SEED = {"quiet": 0, "disturbed": 100}
SAME_SEED, BURNER_SEED = 8_500_000, 1_000
INTERRUPTED, NOT_RUN = 130, (2, 6)  # exit codes; the latter say that the job could not even begin


def in_turn(count: int) -> Iterator[tuple[str, int]]:
    """Conditions and seeds, quiet and disturbed in turn."""
    for index in range(count):
        for condition, first in FIRST_SEED.items():
            yield condition, first + index


def measure_same(runner: Runner, twin: Runner, condition: str, seed: int) -> Row:
    """The shipped schedule once; quiet and disturbed have the same prompts and noise."""
    schedule = asymrnr.load(runner.entry.name)
    index = seed - FIRST_SEED[condition]
    prompt = runner.entry.held_out_prompts(index + 1)[index]
    with burning(BURNER_SEED + seed if condition == "disturbed" else None):
        estimate = beside_plain(runner, twin, prompt, SAME_SEED + index, schedule).estimate
    return {"kind": "same", "condition": condition, "seed": seed, **vars(estimate)}


def run_job(model: str, target: float, folder: Path, condition: str, seed: int) -> Row:
    """The main job once, to its end, whatever that is.

    Raises:
        KeyboardInterrupt: it was interrupted.
        SystemExit: it could not begin, for example because an earlier one is still at work in the folder.
    """
    resumed = (folder / LOG_NAME).exists()
    command = [sys.executable, "-c", JOB, "--model", model, "--target-speedup", str(target)]
    command += ["--seed", str(seed), "--output", str(folder), *(["--resume"] if resumed else [])]
    began = time.monotonic()
    with burning(BURNER_SEED + seed if condition == "disturbed" else None):
        code = subprocess.run(command, cwd=ROOT).returncode
    if code < 0 or code == INTERRUPTED:
        raise KeyboardInterrupt
    if code in NOT_RUN:
        raise SystemExit(f"The run in {folder} ended with exit code {code}, which is no result.")
    row = {"kind": "run", "condition": condition, "seed": seed, "exit": code, "seconds": time.monotonic() - began}
    return {**row, "resumed": resumed, **evidence(folder / file_name(target))}


def evidence(path: Path) -> Row:
    """What a run's artifact says; without one only that nothing was saved."""
    if not path.is_file():
        return {"saved": False}
    artifact = load_artifact(path, policy="off")
    found: Row = {
        "saved": True,
        "spent_ie": sum(row.ie or 0.0 for row in artifact.ledger),
        "failed": [gate.name for gate in artifact.gates if gate.verdict == "FAIL"],
    }
    measured = artifact.evidence
    if measured is not None:
        found |= {
            "point": measured.speedup.point,
            "bound": measured.speedup.lower_bound_95,
            "pairs": len(measured.seeds),
            "attempt": measured.attempt,
            "disturbed_steps": measured.set_aside,
            "disturbed_pairs": measured.disturbed,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="runs of the job, quiet and as many disturbed")
    parser.add_argument("--same", type=int, default=5, help="pairs of the shipped schedule, the same way")
    parser.add_argument("--target", type=float, default=1.2)
    parser.add_argument("--model", default="tiny-cogvideox")
    parser.add_argument("--output", type=Path, default=Path("runs/disturbed"))
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "disturbed.md")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the job under way, too
    console, folder = Console(), arguments.output.resolve()
    command = shlex.join(["python", *sys.argv])
    results = Results(folder, {"kind": "head", "model": arguments.model, "target": arguments.target})

    def left(kind: str, count: int) -> list[tuple[str, int]]:
        return [(c, seed) for c, seed in in_turn(count) if not results.has(kind=kind, condition=c, seed=seed)]

    def keep(row: Row) -> None:
        results.add({**row, "environment": environment()})
        arguments.document.write_text(document(results.rows, command))

    try:
        if same := left("same", arguments.same):
            entry = find_model(arguments.model)
            runner = Runner(load_pipeline(entry.name), entry)
            twin = twin_of(runner)
            warm_up(runner, twin, entry.tuning_prompts(1)[0])
            for number, (condition, seed) in enumerate(same):
                console.rule(f"the shipped schedule, {condition}, seed {seed}; {len(same) - number - 1} more pairs")
                keep(measure_same(runner, twin, condition, seed))
            del runner, twin
        runs, began = left("run", arguments.runs), time.monotonic()
        for number, (condition, seed) in enumerate(runs):
            left_now, pace = len(runs) - number, (time.monotonic() - began) / 60 / max(1, number)
            place = f"run {2 * arguments.runs - left_now + 1} of {2 * arguments.runs}, {condition}, seed {seed}"
            console.rule(f"{place}; {left_now} left" + (f", about {pace * left_now:.0f} min" if number else ""))
            output = folder / f"{condition}-{seed}"
            keep(run_job(arguments.model, arguments.target, output, condition, seed))
            shutil.rmtree(output / ARRAYS_NAME, ignore_errors=True)  # videos, which nobody needs any more
    except KeyboardInterrupt:
        raise SystemExit(f"Interrupted; the same command goes on from {folder}.") from None
    arguments.document.write_text(document(results.rows, command))
    console.print(f"Written: {arguments.document}")


if __name__ == "__main__":
    main()
