"""What else there is to choose from, beside tuned schedules: schedules written by hand, and diffusers' caches.

    python benchmarks/alternatives.py --steps 30 --schedule runs/a/x1.20.json --copied runs/b/x1.20.json
    python benchmarks/alternatives.py --model MODEL --schedule ... --profile runs/a/profile.safetensors

Every method generates the same prompts, which nothing was chosen by, each beside the plain pipeline in lock-step. What
is finished is kept in the output folder and not measured again: interrupt it, and start it again to go on; more
prompts or schedules may be asked for then. The document and its figure are written anew after every method. With a
profile, the paper's heuristic is among the methods: what Appendix B comes to on a tuning prompt, at several speeds.

    python benchmarks/alternatives.py --steps 30 --errors-only --part 1/8 --device cuda --output runs/errors/1 ...
    python benchmarks/alternatives.py --steps 30 --prompts 2 --errors runs/errors/* ...

Errors need no timing: the first command generates a part of the prompts alone, wherever that is fast; the second one
times pairs of a few prompts and takes the errors from there.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import diffusers
import numpy as np
from alternative_methods import Alternative, by_hand, by_heuristic, from_file, of_diffusers, quick
from alternatives_report import COPIED, HEURISTIC, TUNED, write
from embedded import MODEL, QUICK_STEPS, titled
from frontier import changed_nothing
from kept_results import Results, Row, part_of, rows_of
from lockstep_methods import (
    attention_calls,
    attention_left,
    beside_plain,
    called_by,
    twin_of,
    warm_up,
)
from rich.console import Console

from asymrnr.adapters import find_adapter
from asymrnr.install import find_sites
from tuner.models import ModelEntry, find_model, load_pipeline
from tuner.profile.profile import Profile
from tuner.quality.metrics import mse
from tuner.run.identity import environment, subject
from tuner.run.runner import Runner

ROOT = Path(__file__).parents[1]
POOL, MOST_PROMPTS = 64, 16  # held-out prompts; how many of the last are looked at nowhere else
QUICK_PROMPTS, FIRST_SEED = 2, 9_100_000
IDLE_PAIRS = 2  # after which a method that changed nothing is not tried again


def pairs_of(entry: ModelEntry, count: int) -> list[tuple[str, int]]:
    """Prompts and seeds; the last prompts of a long list, since everything else takes the first ones."""
    return [(prompt, FIRST_SEED + i) for i, prompt in enumerate(entry.held_out_prompts(POOL)[::-1][:count])]


def left(
    results: Results, method: Alternative, pairs: Sequence[tuple[str, int]], kind: str = "pair"
) -> list[tuple[str, int]]:
    """The prompts and seeds of a method that are still to be measured, in pairs or for the video alone."""
    if results.has(kind="unavailable", **method.names()):
        return []
    done = results.having(kind=kind, **method.names())
    if len(done) >= IDLE_PAIRS and all(changed_nothing(row) for row in done):
        return []
    known = {(row["prompt"], row["seed"]) for row in done}
    return [pair for pair in pairs if pair not in known]


def measure(runner: Runner, twin: Runner, method: Alternative, prompt: str, seed: int) -> Row:
    """One pair."""
    found = beside_plain(runner, twin, prompt, seed, method.schedule, method.install)
    judge, videos = runner.entry.attributes, {"plain_attributes": found.plain.video, "attributes": found.method.video}
    row = {"kind": "pair", **method.names(), "prompt": prompt, "seed": seed, **vars(found.estimate)}
    row |= {name: {} if judge is None else judge(video, prompt) for name, video in videos.items()}
    return {**row, "mse": mse(found.method.video, found.plain.video), "skipped": 1 - float(found.attention.mean())}


def measure_errors(
    runner: Runner, methods: Sequence[Alternative], pairs: Sequence[tuple[str, int]], results: Results
) -> None:
    """Generate what is left without timing anything; what diffusers cannot install or run is left out."""
    judge, console = runner.entry.attributes, Console()
    for prompt, seed in pairs:
        todo = [method for method in methods if (prompt, seed) in left(results, method, [(prompt, seed)], "video")]
        plain = runner.generate(prompt, seed).video if todo else None
        for method in todo:
            assert plain is not None
            try:
                with ExitStack() as stack:
                    calls = None
                    if method.install is not None:
                        stack.enter_context(method.install(runner))
                        calls = stack.enter_context(attention_calls(runner))
                    video = runner.generate(prompt, seed, method.schedule).video
            except Exception as error:
                if method.install is None:
                    raise
                console.print(f"{method.family}, {method.name}: not available, {type(error).__name__}: {error}")
                continue
            called = called_by(method.schedule, runner.entry.workload.steps) if calls is None else np.array(calls)
            skipped = 1 - float(attention_left(method.schedule, called).mean())
            row = {"kind": "video", **method.names(), "prompt": prompt, "seed": seed, "mse": mse(video, plain)}
            looks = {"plain_attributes": plain, "attributes": video}
            row |= {name: {} if judge is None else judge(shown, prompt) for name, shown in looks.items()}
            results.add({**row, "skipped": skipped, "device": str(runner.device)})
            console.print(f"{method.family}, {method.name}: {row['mse']:.1e} MSE, '{prompt}'", soft_wrap=True)


def measure_all(
    runner: Runner,
    methods: Sequence[Alternative],
    pairs: Sequence[tuple[str, int]],
    results: Results,
    after_method: Callable[[], None],
) -> None:
    """Measure what is left, method by method; what diffusers cannot install or run is recorded with the reason."""
    console, began, done = Console(), time.monotonic(), 0
    if not any(left(results, method, pairs) for method in methods):
        return
    twin = twin_of(runner)
    warm_up(runner, twin, runner.entry.tuning_prompts(1)[0])
    for method in methods:
        todo = left(results, method, pairs)
        try:
            if method.install is not None and todo:
                with method.install(twin):  # calibrates what has to be, and fails before anything else is done
                    pass
            for prompt, seed in todo:
                if (prompt, seed) not in left(results, method, pairs):
                    break
                row = measure(runner, twin, method, prompt, seed)
                results.add(row)
                done, rest = done + 1, sum(len(left(results, each, pairs)) for each in methods)
                minutes = (time.monotonic() - began) / done * rest / 60
                figures = "{log_speedup:+.3f} log speed-up, {mse:.1e} MSE".format_map(row)
                console.print(
                    f"{method.family}, {method.name}: {figures}; {rest} pairs left, {minutes:.0f} min", soft_wrap=True
                )
        except Exception as error:
            if method.install is None:
                raise
            reason = f"{type(error).__name__}: {error}"
            results.add({"kind": "unavailable", **method.names(), "reason": reason})
            console.print(f"{method.family}, {method.name}: not available, {reason}")
            twin = twin_of(runner)
        if todo:
            after_method()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps, prompts and methods, to see that it runs")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--steps", type=int, help="by default the model's own")
    parser.add_argument("--prompts", type=int, default=8, choices=range(1, MOST_PROMPTS + 1), metavar="NUMBER")
    parser.add_argument("--schedule", type=Path, action="append", default=[], help="artifact; more than once for more")
    parser.add_argument("--copied", type=Path, action="append", default=[], help="the same, tuned to copy only")
    parser.add_argument("--profile", type=Path, help="of a tuning run; adds the paper's heuristic")
    parser.add_argument("--only", nargs="+", metavar="FAMILY", help="families to measure; what was measured stays")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--errors-only", action="store_true", help="generate alone, and time nothing")
    parser.add_argument("--part", default="1/1", help="which of how many parts of the prompts")
    parser.add_argument("--errors", type=Path, nargs="+", default=[], help="folders of what --errors-only gave")
    parser.add_argument("--output", type=Path, help="of what is finished; by default runs/alternatives-[MODEL-]STEPS")
    parser.add_argument(
        "--document", type=Path, help="by default alternatives-[MODEL-]STEPS.md in docs, or in --output if quick"
    )
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    diffusers.utils.logging.set_verbosity_error()
    entry = find_model(arguments.model)
    steps, prompts = arguments.steps or entry.workload.steps, arguments.prompts
    if arguments.quick:
        steps, prompts = QUICK_STEPS, QUICK_PROMPTS
    entry = entry.with_workload(steps=steps)
    title = titled("alternatives", entry.name, steps)
    folder = (arguments.output or Path("runs") / title).resolve()
    document = arguments.document or (folder if arguments.quick else ROOT / "docs") / f"{title}.md"
    files = [(TUNED, path) for path in arguments.schedule] + [(COPIED, path) for path in arguments.copied]
    methods = [method for family, path in files for method in from_file(family, path, steps)]
    runner = Runner(load_pipeline(entry.name, arguments.device), entry)
    blocks = len(find_sites(runner.denoiser, find_adapter(runner.denoiser)))
    if arguments.profile is not None and HEURISTIC in (arguments.only or [HEURISTIC]):  # some ten generations
        methods += by_heuristic(runner, Profile.load(arguments.profile))
    methods += quick(blocks, steps) if arguments.quick else [*by_hand(blocks, steps), *of_diffusers(steps)]
    methods = [method for method in methods if arguments.only is None or method.family in arguments.only]
    pairs = part_of(pairs_of(entry, prompts), arguments.part)
    results = Results(folder, {"kind": "head", "environment": environment(), "subject": subject(runner)})

    if arguments.errors_only:
        measure_errors(runner, methods, pairs, results)
        return
    elsewhere = rows_of(arguments.errors, results.rows[0]["subject"])

    def write_now() -> None:
        rest = sum(len(left(results, method, pairs)) for method in methods)
        write([*results.rows, *elsewhere], shlex.join(["python", *sys.argv]), rest, document)

    try:
        measure_all(runner, methods, pairs, results, write_now)
    except KeyboardInterrupt:
        write_now()
        raise SystemExit(f"Interrupted; the same command goes on from {folder}.") from None
    write_now()
    Console().print(f"Written: {document}")


if __name__ == "__main__":
    main()
