"""Tuned against the paper's heuristic once more, on prompts and seeds that no choice in this project was made on.

    python benchmarks/unseen.py

The search's defaults (`SearchSpace.trusts`, `early_weight`) were chosen after looking at some of the prompts that
`baselines.py` compares on; these are others. Takes the schedules of its tuning runs and the heuristic's rule from its
results, brings both to the same measured speed-up, and writes `docs/unseen.md`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import baselines
from methods import MAX_RATE, PAPER, ByHand, Method

from asymrnr.artifact_io import load_artifact
from tuner.models import REGISTRY, load_pipeline
from tuner.package import file_name
from tuner.paper.heuristic import Attempt, HandRule, best_attempt
from tuner.profile.profile import Profile
from tuner.run.identity import environment
from tuner.run.runner import Runner
from tuner.stages.profile import PROFILE_FILE

FIRST_PROMPT, SEED = 30, 7_700_000
HEADER = (
    "| target | measured: tuned, heuristic | tuned MSE / heuristic's (95 %) | per prompt (95 %) "
    "| teacher-forced, squared | not squared |"
)


def line(target: float, rows: list[baselines.Row]) -> str:
    """One target's figures, from `baselines.table`."""
    tuned, heuristic = rows[1], rows[2]
    if "mse_ratio" not in heuristic:
        return f"| {target:g}x | the heuristic cannot reach this speed | - | - | - | - |"

    def cell(values: tuple[float, float, float]) -> str:
        return "{:.2f} ({:.2f} to {:.2f})".format(*values)

    value, low, high = heuristic["forced_ratio"]
    cells = [f"{target:g}x", f"{tuned['speedup']:.2f}x, {heuristic['speedup']:.2f}x", cell(heuristic["mse_ratio"])]
    cells += [cell(heuristic["mse_typical"]), cell((value**2, low**2, high**2)), cell((value, low, high))]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/baselines"), help="folder of baselines.py's runs")
    parser.add_argument("--prompts", type=int, default=5)
    parser.add_argument("--forced", type=int, default=2, help="prompts of the teacher-forced error")
    arguments = parser.parse_args()
    root = Path(__file__).parents[1]
    results = json.loads((root / "benchmarks" / "results" / "baselines.json").read_text())
    attempts = [Attempt(**attempt) for attempt in results["heuristic_attempts"]]
    runner = Runner(load_pipeline(baselines.MODEL), REGISTRY[baselines.MODEL])
    prompts = runner.entry.held_out_prompts(FIRST_PROMPT + arguments.prompts)[FIRST_PROMPT:]
    machine, lines = environment(), []
    for target in (entry["target"] for entry in results["targets"]):
        folder = arguments.runs / file_name(target).removesuffix(".json")
        profile = Profile.load(folder / PROFILE_FILE)
        assert profile.latency is not None
        tuned = load_artifact(folder / file_name(target)).schedule_object()
        by_hand = ByHand(best_attempt(attempts), attempts, 0.0, HandRule.of(profile, *PAPER, MAX_RATE))
        contenders = [
            Method("tuned", lambda model, speedup, tuned=tuned: tuned, 0.0, fixed=True),
            Method("heuristic (Appendix B)", by_hand.build, 0.0),
        ]
        plain = baselines.compare(contenders, profile.latency, runner, prompts, arguments.forced, SEED)
        lines.append(line(target, baselines.table(contenders, plain, prompts, runner)))
        print(lines[-1])
    text = [
        "# Tuned against the heuristic, unseen prompts",
        "",
        f"Measured by `python benchmarks/unseen.py --prompts {arguments.prompts} --forced {arguments.forced}`:",
        "the schedules of [baselines.md](baselines.md) on prompts and seeds that no choice in this project was made on",
        f"(teacher-forced error: {arguments.forced} of them; {machine['cpu']}, {machine['threads']} threads).",
        "",
        HEADER,
        "|" + "---|" * (HEADER.count("|") - 1),
        *lines,
    ]
    (root / "docs" / "unseen.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
