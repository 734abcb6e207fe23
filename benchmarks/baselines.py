"""Tuned against the paper's heuristic, uniform rates and random matching, at equal measured latency.

    python benchmarks/baselines.py [--model MODEL]

Runs the whole tuning job on an embedded model for every target and for ever higher ones until none is certified. Then,
at each target and at the highest one certified, every other method is brought to the tuned schedule's measured speed-up
(with the latency model, corrected by what it really took), and all of them generate the same held-out prompts, the
first ones beside the plain pipeline in lock-step. Last, the heuristic's own fastest good schedule is certified like a
tuned one. Writes `docs/baselines[-MODEL].md` with a picture, raw numbers to `benchmarks/results/`; about an hour.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from baselines_report import write
from embedded import MODEL, titled
from lockstep_methods import beside_plain, twin_of, typical, warm_up
from methods import ByHand, Method, align, contenders, tune_heuristic
from rich.progress import track

from asymrnr.artifact import Artifact
from asymrnr.artifact_io import load_artifact
from tuner.certify.statistics import LOOKS
from tuner.context import TuneOptions
from tuner.errors import TunerError
from tuner.latency.model import LatencyModel
from tuner.models import REGISTRY, load_pipeline
from tuner.opening import open_run
from tuner.package import file_name
from tuner.pipeline import tune
from tuner.profile.profile import Profile
from tuner.quality.metrics import mse, psnr, ssim
from tuner.report.console import LiveProgress
from tuner.run.identity import environment
from tuner.run.runner import Generation, Runner
from tuner.search.space import load_space_of
from tuner.stages.certify import STAGE as CERTIFY
from tuner.stages.certify import certify
from tuner.stages.profile import PROFILE_FILE

Row = dict[str, Any]

SEED = 9_100_000
POOL = 64  # held-out prompts, of which the last are looked at nowhere else
RESAMPLES = 4000
SPEED_PAIRS = 3  # that say how fast the tuned schedule is, which the others are brought to
HEURISTIC_TARGET, HEURISTIC_BUDGET = 1.01, 200.0


@dataclass(frozen=True)
class Tuned:
    """A finished tuning run, and why it ended without a certificate where it did."""

    target: float
    artifact: Artifact
    profile: Profile
    refused: str | None

    @property
    def tuning_ie(self) -> float:
        """Generations spent before certification."""
        return sum(row.ie or 0.0 for row in self.artifact.ledger if row.stage != CERTIFY)


def tune_to(model: str, target: float, folder: Path) -> Tuned | None:
    """Run the job; None where it ends without evidence."""
    output, refused = folder / file_name(target).removesuffix(".json"), None
    with LiveProgress() as progress:
        try:
            tune(TuneOptions(model, target, output, resume=True, command="benchmarks/baselines.py"), progress)
        except TunerError as error:
            print(f"{target:g}x: {error}")
            refused = str(error).split(" The best schedule")[0].split(";")[0].rstrip(".")
    path = output / file_name(target)
    if not path.is_file() or (artifact := load_artifact(path)).evidence is None:
        return None
    return Tuned(target, artifact, Profile.load(output / PROFILE_FILE), refused)


def tune_all(model: str, targets: list[float], ladder: list[float], folder: Path) -> list[Tuned]:
    """Every target that was measured, and the last of the ladder that is certified."""
    found = [run for target in targets if (run := tune_to(model, target, folder)) is not None]
    highest = None
    for target in ladder:
        run = tune_to(model, target, folder)
        if run is None or run.refused is not None:
            break
        highest = run
    return found if highest is None else [*found, highest]


def compare(
    methods: list[Method],
    model: LatencyModel,
    runner: Runner,
    prompts: list[str],
    timed: int,
    forced: int,
    seed: int = SEED,
) -> list[Generation]:
    """Bring all methods to the tuned one's speed and generate every prompt with each.

    Args:
        methods: the tuned one first; they keep what they generated.
        model: latency model of this machine.
        runner: the model.
        prompts: what to generate.
        timed: so many of them beside the plain pipeline in lock-step, the others alone.
        forced: so many of them for the teacher-forced error, too.
        seed: of the first prompt.

    Returns:
        The plain generation of every prompt.
    """
    tuning_prompt, twin = runner.entry.tuning_prompts(2)[1], twin_of(runner)
    tuned = methods[0].build(model, 1.0)
    warm_up(runner, twin, tuning_prompt)
    logs = [
        beside_plain(runner, twin, tuning_prompt, seed + i, tuned).estimate.log_speedup
        for i in track(range(SPEED_PAIRS), description="the tuned schedule's speed")
    ]
    speedup, _, _ = typical(logs)
    for method in track(methods, description=f"bringing all to {speedup:.2f}x"):
        align(method, runner, twin, model, tuning_prompt, seed, speedup)
    there = [method for method in methods if method.schedule is not None]
    baseline: list[Generation] = []
    for i, prompt in enumerate(track(prompts, description="generating")):
        if i >= timed:
            baseline.append(runner.generate(prompt, seed + i))
            for method in there:
                method.runs.append(runner.generate(prompt, seed + i, method.schedule))
            continue
        found = [beside_plain(runner, twin, prompt, seed + i, method.schedule) for method in there]
        baseline.append(found[0].plain)
        for method, beside in zip(there, found, strict=True):
            method.runs.append(beside.method)
            method.estimates.append(beside.estimate)
    for i in track(range(forced), description="teacher-forced"):
        trajectory = runner.generate(prompts[i], seed + i, record=True).trajectory
        for method in there:
            run = runner.generate(prompts[i], seed + i, method.schedule, forced=trajectory)
            assert run.forced_error is not None
            method.forced.append(float(run.forced_error.mean()))
    return baseline


def ratio_interval(errors: np.ndarray, tuned: np.ndarray) -> tuple[float, float, float]:
    """The tuned schedule's mean error relative to another one's, with its 95 % bootstrap interval over prompts."""
    picks = np.random.default_rng(0).integers(len(errors), size=(RESAMPLES, len(errors)))
    ratios = tuned[picks].mean(1) / errors[picks].mean(1)
    return float(tuned.mean() / errors.mean()), float(np.quantile(ratios, 0.025)), float(np.quantile(ratios, 0.975))


def typical_ratio(errors: np.ndarray, tuned: np.ndarray) -> tuple[float, float, float]:
    """Geometric mean over prompts of the tuned schedule's error relative to another one's, and its interval.

    A few prompts whose generation is close to tipping over to another video have errors ten times those of the rest
    and decide every mean; here they count as one prompt each.
    """
    logs = np.log(tuned / errors)
    samples = logs[np.random.default_rng(0).integers(len(logs), size=(RESAMPLES, len(logs)))].mean(1)
    low, high = np.quantile(samples, [0.025, 0.975])
    return float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high))


def table(methods: list[Method], baseline: list[Generation], prompts: list[str], runner: Runner) -> list[Row]:
    """One row of measured figures a method; the first method is the tuned one."""
    attributes = runner.entry.attributes
    assert attributes is not None

    def right(videos: list[Generation]) -> float:
        return float(np.mean([list(attributes(g.video, p).values()) for g, p in zip(videos, prompts, strict=True)]))

    rows: list[Row] = [{"method": "unaccelerated", "speedup": 1.0, "attributes": right(baseline)}]
    tuned = np.array([mse(t.video, b.video) for t, b in zip(methods[0].runs, baseline, strict=True)])
    for method in methods:
        if method.schedule is None:
            rows.append({"method": f"{method.name}: out of reach by the latency model"})
            continue
        pairs = [(t.video, b.video) for t, b in zip(method.runs, baseline, strict=True)]
        errors = np.array([mse(a, b) for a, b in pairs])
        speedup, low, high = typical([estimate.log_speedup for estimate in method.estimates])
        rows.append(
            {
                "method": method.name,
                "speedup": speedup,
                "speedup_interval": (low, high),
                "attention": method.schedule.attention_cost(),
                "mse": float(errors.mean()),
                "mse_all": errors.tolist(),
                "mse_ratio": ratio_interval(errors, tuned),
                "mse_typical": typical_ratio(errors, tuned),
                "psnr": float(np.mean([psnr(a, b) for a, b in pairs])),
                "ssim": float(np.mean([ssim(a, b) for a, b in pairs])),
                "forced": float(np.mean(method.forced)),
                "forced_all": method.forced,
                "forced_ratio": ratio_interval(np.array(method.forced), np.array(methods[0].forced)),
                "attributes": right(method.runs),
                "tuning_ie": method.tuning_ie,
            }
        )
    return rows


def certify_heuristic(model: str, by_hand: ByHand, noise_floor: float, folder: Path) -> Row | None:
    """The heuristic's fastest attempt that looked good and passes every gate but that of a target."""
    good = sorted((a for a in by_hand.attempts if a.good), key=lambda a: a.attention)
    options = TuneOptions(model, HEURISTIC_TARGET, folder, budget=HEURISTIC_BUDGET, resume=True)
    with LiveProgress() as progress:
        ctx = open_run(options, progress)
        try:
            for attempt in good:
                found = certify(ctx, by_hand.rule.schedule(attempt.threshold, attempt.rate), 1.0, noise_floor)
                print(f"heuristic, {attempt}: {found.denoise}, failed: {[gate.message for gate in found.failed()]}")
                if len(found.pairs) >= LOOKS[0].pairs and all(gate.name == "speedup" for gate in found.failed()):
                    mean = float(np.mean(found.quality["mse"]))
                    return {"point": found.denoise.point, "bound": found.denoise.lower_bound_95, "mse": mean}
        finally:
            ctx.instrument.store.close()
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--targets", type=float, nargs="+", default=[1.2])
    parser.add_argument("--ladder", type=float, nargs="*", default=[1.8], help="tried until one fails")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--timed", type=int, default=2, help="prompts generated beside the plain pipeline, for speed")
    parser.add_argument("--forced", type=int, default=2, help="prompts of the teacher-forced error")
    parser.add_argument("--output", type=Path, help="folder of the tuning runs; by default runs/baselines[-MODEL]")
    arguments = parser.parse_args()
    model, title = arguments.model, titled("baselines", arguments.model)
    folder = arguments.output or Path("runs") / title
    tuned = tune_all(model, arguments.targets, arguments.ladder, folder)
    runner = Runner(load_pipeline(model), REGISTRY[model])
    # The last prompts of a long list, which nothing was ever chosen by.
    prompts = runner.entry.held_out_prompts(POOL)[::-1][: arguments.prompts]
    space = load_space_of(runner.entry)
    by_hand = tune_heuristic(runner, tuned[0].profile)
    floor = tuned[0].artifact.evidence.noise_floor if tuned[0].artifact.evidence is not None else None
    assert floor is not None
    targets = []
    for run in tuned:
        artifact, profile = run.artifact, run.profile
        assert profile.latency is not None
        assert artifact.evidence is not None
        methods = contenders(artifact.schedule_object(), run.tuning_ie, by_hand, profile, space)
        baseline = compare(methods, profile.latency, runner, prompts, arguments.timed, arguments.forced)
        speed = artifact.evidence.speedup
        certified = {"point": speed.point, "bound": speed.lower_bound_95, "refused": run.refused}
        targets.append(
            {"target": run.target, "certified": certified, "rows": table(methods, baseline, prompts, runner)}
        )
    write(
        {
            "model": model,
            "environment": environment(),
            "command": shlex.join(["python", *sys.argv]),
            "prompts": len(prompts),
            "timed_prompts": arguments.timed,
            "forced_prompts": arguments.forced,
            "targets": targets,
            "heuristic_attempts": [vars(attempt) for attempt in by_hand.attempts],
            "heuristic_certified": certify_heuristic(model, by_hand, floor, folder / "heuristic"),
        },
        Path(__file__).parents[1],
        title,
    )


if __name__ == "__main__":
    main()
