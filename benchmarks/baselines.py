"""Tuned against the paper's heuristic, uniform rates and random matching, at equal measured latency, in one run.

    python benchmarks/baselines.py --run runs/tiny-cogvideox-x1.30

Uses the profile and schedule of a finished tuning run. The tuned schedule is measured first; every other method is
brought to the same measured speed-up with the latency model, corrected by what it really took. Then all of them
generate the same held-out prompts, interleaved with the plain pipeline. Prints a table and writes it to
`docs/baselines-MODEL-xTARGET.md`, raw numbers to `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from asymrnr.artifact import Artifact
from asymrnr.artifact_io import load_artifact
from asymrnr.schedule import Schedule
from tuner.baselines.heuristic import START_THRESHOLD, Attempt, threshold_schedule, tune_by_hand
from tuner.baselines.uniform import uniform_schedule
from tuner.certify.gates import attribute_gate, video_gate
from tuner.fingerprint import environment
from tuner.job.certify import STAGE as CERTIFY
from tuner.job.profiling import PROFILE_FILE
from tuner.job.timing import latency_model
from tuner.models import REGISTRY, load_pipeline
from tuner.profile.profile import Profile
from tuner.quality.metrics import mse, psnr, ssim
from tuner.runner import Generation, Runner
from tuner.search.scale import smallest_scale
from tuner.search.threshold import constant_in_windows
from tuner.surrogate.latency import LatencyModel

Row = dict[str, Any]

MODEL = "tiny-cogvideox"
PAPER: Row = {"stride": (2, 2, 2), "cache_step": 5}  # the paper's setting for CogVideoX
MAX_RATE = 0.875  # of that stride
FIRST_SEED = 7_000_000
ALIGNMENTS = 2
FORCED_PROMPTS = 2
RESAMPLES = 4000


@dataclass
class Method:
    """One way to get a schedule for a speed-up (None: out of reach), and what its generations showed."""

    name: str
    build: Callable[[LatencyModel, float], Schedule | None]
    tuning_ie: float
    schedule: Schedule | None = None
    runs: list[Generation] = field(default_factory=list)
    forced: float = float("nan")


def measure(schedule: Schedule, runner: Runner, prompt: str) -> float:
    """Speed-up of one generation over unaccelerated steps timed right before and after it."""
    before = runner.time_steps(4, prompt)[1:]
    generation = runner.generate(prompt, FIRST_SEED, schedule)
    after = runner.time_steps(4, prompt)[1:]
    baseline = float(np.median(np.concatenate([before, after]))) * len(generation.step_seconds)
    return baseline / float(generation.step_seconds.sum())


def align(method: Method, runner: Runner, model: LatencyModel, prompt: str, speedup: float) -> None:
    """Settle the method's schedule so that its measured speed-up is the one wanted."""
    for _ in range(ALIGNMENTS):
        method.schedule = method.build(model, speedup)
        if method.schedule is None:
            return
        model = model.refit(model.baseline_seconds / measure(method.schedule, runner, prompt), method.schedule)
    method.schedule = method.build(model, speedup)


def run_heuristic(
    runner: Runner, similarity: dict[str, np.ndarray], settings: Row
) -> tuple[Attempt | None, list[Attempt], float]:
    """Appendix B on one tuning prompt; "looks good" is the certificate's video and attribute gates.

    Returns:
        The best rule, every attempt, and what all of it cost in unaccelerated generations.
    """
    entry = runner.entry
    prompt = entry.tuning_prompts(1)[0]
    plain, other_seed = runner.generate(prompt, 1), runner.generate(prompt, 2)
    floor = mse(plain.video, other_seed.video)
    seconds = [plain.seconds, other_seed.seconds]
    assert entry.attributes is not None
    right = list(entry.attributes(plain.video, prompt).values())

    def looks_good(schedule: Schedule) -> bool:
        assert entry.attributes is not None
        generation = runner.generate(prompt, 1, schedule)
        seconds.append(generation.seconds)
        verdicts = [
            video_gate([mse(generation.video, plain.video)], floor),
            attribute_gate(right, list(entry.attributes(generation.video, prompt).values())),
        ]
        print(f"  heuristic: attention {schedule.attention_cost():.2f}  {verdicts[0].message}")
        return all(gate.verdict != "FAIL" for gate in verdicts)

    best, attempts = tune_by_hand(similarity, looks_good, MAX_RATE, **settings)
    return best, attempts, sum(seconds) / float(np.mean(seconds[:2]))


def contenders(artifact: Artifact, profile: Profile, runner: Runner) -> tuple[list[Method], list[Attempt]]:
    """The tuned schedule first, then everything it has to beat."""
    tuned = artifact.schedule_object()
    settings = {**PAPER, "timesteps": tuple(float(t) for t in profile.timesteps)}
    similarity = {f: constant_in_windows(profile.similarity[f], PAPER["cache_step"]) for f in ("Q", "V")}
    best, attempts, heuristic_ie = run_heuristic(runner, similarity, settings)
    threshold = START_THRESHOLD if best is None else best.threshold
    tuning_ie = sum(row.ie or 0.0 for row in artifact.ledger if row.stage != CERTIFY)
    shape = (tuned.blocks, tuned.steps)

    def heuristic(model: LatencyModel, speedup: float) -> Schedule | None:
        def build(scale: float) -> Schedule:
            return threshold_schedule(similarity, threshold, scale * MAX_RATE, MAX_RATE, **settings)

        return smallest_scale(build, model, speedup)

    def uniform(features: tuple[str, ...]) -> Callable[[LatencyModel, float], Schedule | None]:
        return lambda model, speedup: uniform_schedule(model, speedup, shape, features, MAX_RATE, **settings)

    return [
        Method("tuned", lambda model, speedup: tuned, tuning_ie),
        Method("heuristic (Appendix B)", heuristic, heuristic_ie),
        Method("uniform Q and V", uniform(("Q", "V")), 0.0),
        Method("uniform Q", uniform(("Q",)), 0.0),
        Method("tuned rates, random matching", lambda model, speedup: replace(tuned, metric="random"), tuning_ie),
    ], attempts


def compare(methods: list[Method], model: LatencyModel, runner: Runner, prompts: list[str]) -> list[Generation]:
    """Bring all methods to the tuned one's speed and generate every prompt with each; returns the plain generations."""
    tuning_prompt = runner.entry.tuning_prompts(2)[1]
    tuned = methods[0].build(model, 1.0)
    assert tuned is not None
    speedup = float(np.median([measure(tuned, runner, tuning_prompt) for _ in range(3)]))
    for method in track(methods, description=f"bringing all to {speedup:.2f}x"):
        align(method, runner, model, tuning_prompt, speedup)
    there = [method for method in methods if method.schedule is not None]
    baseline: list[Generation] = []
    for i, prompt in enumerate(track(prompts, description="generating")):
        baseline.append(runner.generate(prompt, FIRST_SEED + i, record=i < FORCED_PROMPTS))
        for method in there if i % 2 == 0 else there[::-1]:
            method.runs.append(runner.generate(prompt, FIRST_SEED + i, method.schedule))
    for method in track(there, description="teacher-forced"):
        errors = [
            runner.generate(prompts[i], FIRST_SEED + i, method.schedule, forced=baseline[i].trajectory).forced_error
            for i in range(FORCED_PROMPTS)
        ]
        method.forced = float(np.mean([error for error in errors if error is not None]))
    return baseline


def ratio_interval(errors: np.ndarray, tuned: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval over prompts of the tuned schedule's mean error relative to another one's."""
    picks = np.random.default_rng(0).integers(len(errors), size=(RESAMPLES, len(errors)))
    ratios = tuned[picks].mean(1) / errors[picks].mean(1)
    return float(np.quantile(ratios, 0.025)), float(np.quantile(ratios, 0.975))


def table(methods: list[Method], baseline: list[Generation], prompts: list[str], runner: Runner) -> list[Row]:
    """One row of measured figures a method; the first method is the tuned one."""
    attributes = runner.entry.attributes
    assert attributes is not None
    plain_seconds = sum(float(g.step_seconds.sum()) for g in baseline)
    right = np.mean([list(attributes(g.video, p).values()) for g, p in zip(baseline, prompts, strict=True)])
    rows: list[Row] = [{"method": "unaccelerated", "speedup": 1.0, "attributes": float(right)}]
    tuned = np.array([mse(t.video, b.video) for t, b in zip(methods[0].runs, baseline, strict=True)])
    for method in methods:
        if method.schedule is None:
            rows.append({"method": f"{method.name} (cannot reach it)"})
            continue
        pairs = [(t.video, b.video) for t, b in zip(method.runs, baseline, strict=True)]
        errors = np.array([mse(a, b) for a, b in pairs])
        right = np.mean([list(attributes(g.video, p).values()) for g, p in zip(method.runs, prompts, strict=True)])
        rows.append(
            {
                "method": method.name,
                "speedup": plain_seconds / sum(float(g.step_seconds.sum()) for g in method.runs),
                "attention": method.schedule.attention_cost(),
                "mse": float(errors.mean()),
                "mse_all": errors.tolist(),
                "tuned_mse_ratio": float(tuned.mean() / errors.mean()),
                "tuned_mse_ratio_95": ratio_interval(errors, tuned),
                "psnr": float(np.mean([psnr(a, b) for a, b in pairs])),
                "ssim": float(np.mean([ssim(a, b) for a, b in pairs])),
                "forced": method.forced,
                "attributes": float(right),
                "tuning_ie": method.tuning_ie,
            }
        )
    return rows


def markdown(rows: list[Row], target: float, prompts: int, machine: dict[str, Any], run: Path) -> str:
    """The table for the docs."""

    def cell(row: Row, name: str, form: str) -> str:
        return format(row[name], form) if row.get(name) is not None else "-"

    lines = [
        f"# tiny-cogvideox at {target:g}x: tuned against the baselines",
        "",
        f"Measured by `python benchmarks/baselines.py --run {run}` on {prompts} held-out prompts with unseen seeds,",
        f"all methods interleaved in one run ({machine['cpu']}, {machine['threads']} threads, torch "
        f"{machine['torch']}).",
        "Errors are against the unaccelerated video of the same prompt and seed; the interval bootstraps prompts.",
        "",
        "| method | measured speed-up | MSE | tuned MSE / this MSE (95 %) | PSNR (dB) | SSIM "
        "| teacher-forced error | attributes right | generations spent |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        interval = "-"
        if "tuned_mse_ratio" in row:
            low, high = row["tuned_mse_ratio_95"]
            interval = f"{row['tuned_mse_ratio']:.2f} ({low:.2f} to {high:.2f})"
        cells = [row["method"], cell(row, "speedup", ".2f"), cell(row, "mse", ".2e"), interval]
        forms = {"psnr": ".1f", "ssim": ".4f", "forced": ".4f", "attributes": ".1%", "tuning_ie": ".1f"}
        cells += [cell(row, name, form) for name, form in forms.items()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished `asymrnr-tune` run")
    parser.add_argument("--target", type=float, default=1.3)
    parser.add_argument("--prompts", type=int, default=8)
    arguments = parser.parse_args()
    artifact = load_artifact(arguments.run / f"x{arguments.target:.2f}.json")
    profile = Profile.load(arguments.run / PROFILE_FILE)
    assert profile.latency is not None
    runner = Runner(load_pipeline(MODEL), REGISTRY[MODEL])
    prompts = runner.entry.held_out_prompts(2 + arguments.prompts)[2:]  # the first two belong to the certificate
    step = float(np.median(runner.time_steps(6, prompts[0])[1:]))
    model = latency_model(profile.latency, step, artifact.workload.steps)

    methods, attempts = contenders(artifact, profile, runner)
    baseline = compare(methods, model, runner, prompts)
    rows = table(methods, baseline, prompts, runner)
    machine = environment()
    text = markdown(rows, arguments.target, len(prompts), machine, arguments.run)
    print(text)
    root = Path(__file__).parents[1]
    content = {"environment": machine, "heuristic": [vars(a) for a in attempts], "rows": rows}
    name = f"{MODEL}-x{arguments.target:.2f}"
    for path, written in (
        (root / "benchmarks" / "results" / f"baselines-{name}.json", json.dumps(content, indent=1)),
        (root / "docs" / f"baselines-{name}.md", text.rstrip()),
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_text(written + "\n")


if __name__ == "__main__":
    main()
