"""The command line: `asymrnr-tune`."""

from __future__ import annotations

import os
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from asymrnr.errors import AsymRnRError
from tuner.errors import TunerError, UsageError

if TYPE_CHECKING:
    from tuner.models import LoadOptions

INTERRUPTED = 130

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Finds, proves and packages acceleration schedules for video diffusion transformers.",
)

Model = Annotated[str | None, typer.Option("--model", help="Name of a model; `asymrnr-tune models` lists them.")]
Device = Annotated[str, typer.Option(help="Torch device.")]
Weights = Annotated[
    Path | None, typer.Option(help="Folder of a pipeline saved with save_pretrained, instead of the hub's weights.")
]


class OffloadChoice(StrEnum):
    """What `--offload` takes."""

    NONE = "none"
    MODEL = "model"


Offload = Annotated[OffloadChoice, typer.Option(help="Keep the parts of a model that are not running off the GPU.")]
Backend = Annotated[
    str | None, typer.Option("--attention-backend", help="What computes attention, as diffusers calls it: flash, sage.")
]
LpipsWeights = Annotated[
    Path | None,
    typer.Option(help="torchvision's AlexNet weights for LPIPS; without them it is reported with random features."),
]


@app.callback(invoke_without_command=True)
def tune(
    ctx: typer.Context,
    model: Model = None,
    target_speedup: Annotated[float | None, typer.Option(help="Denoising speed-up to certify, e.g. 1.3.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the run [runs/MODEL-xTARGET].")] = None,
    budget: Annotated[float, typer.Option(help="What may be spent, in unaccelerated generations.")] = 18.0,
    seed: Annotated[int, typer.Option(help="Seed of the search and of the prompts' noise.")] = 0,
    trials: Annotated[int, typer.Option(help="Surrogate trials of one search.")] = 300,
    resume: Annotated[bool, typer.Option(help="Go on from what the output folder already holds.")] = False,
    device: Device = "cpu",
    weights: Weights = None,
    offload: Offload = OffloadChoice.NONE,
    attention_backend: Backend = None,
    lpips_weights: LpipsWeights = None,
) -> None:
    """Profile a model, search a schedule for a target speed-up, verify it and certify it on held-out prompts.

    Exit codes: 0 certified, 1 internal error, 2 bad input, 3 target infeasible, 4 quality gate failed, 5 too noisy,
    6 environment mismatch, 7 budget exhausted.
    """
    if ctx.invoked_subcommand is not None:
        return
    if model is None or target_speedup is None:
        raise UsageError("Give --model and --target-speedup, or one of the commands that --help lists.")
    from tuner.pipeline import tune as run
    from tuner.report.console import LiveProgress
    from tuner.run.context import TuneOptions

    options = TuneOptions(
        model=model,
        target_speedup=target_speedup,
        output=output or Path("runs") / f"{model}-x{target_speedup:.2f}",
        budget=budget,
        seed=seed,
        trials=trials,
        resume=resume,
        device=device,
        command=shlex.join(["asymrnr-tune", *sys.argv[1:]]),
        load=_load_options(weights, offload, attention_backend),
        lpips_weights=lpips_weights,
    )
    with LiveProgress() as progress:
        outcome = run(options, progress)
    from tuner.report.run import print_summary

    print_summary(outcome, Console())


@app.command()
def models() -> None:
    """List the models and where their weights come from."""
    from rich.table import Column, Table

    from tuner.models import REGISTRY, weights_status

    table = Table("model", Column("pipeline", overflow="fold"), "workload", Column("weights", overflow="fold"))
    for entry in REGISTRY.values():
        w = entry.workload
        size = f"{w.frames} frames {w.height}x{w.width}, {w.steps} steps"
        table.add_row(entry.name, entry.pipeline.__name__, size, weights_status(entry.weights))
    Console().print(table)


@app.command()
def profile(
    model: Annotated[str, typer.Option("--model")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write, .safetensors.")] = Path(
        "profile.safetensors"
    ),
    seed: Annotated[int, typer.Option()] = 0,
    device: Device = "cpu",
    weights: Weights = None,
    offload: Offload = OffloadChoice.NONE,
    attention_backend: Backend = None,
) -> None:
    """Profile one generation: similarities, divergences, error curves; heat-maps are written beside the file."""
    from tuner.commands.standalone import profile_to
    from tuner.report.console import LiveProgress

    options = _load_options(weights, offload, attention_backend)
    with LiveProgress() as progress:
        figures = profile_to(model, output, seed, device, options, progress)
    Console().print(f"profile in {output}, heat-maps in {figures}")


@app.command()
def generate(
    model: Annotated[str, typer.Option("--model")],
    prompt: Annotated[str, typer.Option("--prompt")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write, .mp4.")] = Path("out.mp4"),
    schedule: Annotated[
        str | None, typer.Option("--schedule", help="Artifact file, or a shipped target such as x1.30.")
    ] = None,
    seed: Annotated[int, typer.Option()] = 0,
    device: Device = "cpu",
    weights: Weights = None,
    offload: Offload = OffloadChoice.NONE,
    attention_backend: Backend = None,
) -> None:
    """Generate one video, accelerated when a schedule is given, and write it as mp4."""
    from tuner.commands.standalone import generate_to

    options = _load_options(weights, offload, attention_backend)
    Console().print(generate_to(model, prompt, output, schedule, seed, device, options))


@app.command()
def flops(
    model: Annotated[str, typer.Option("--model", help="One of the paper's five models.")],
    similarity: Annotated[Path | None, typer.Option(help="Published similarity table, .safetensors.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Artifact or rule as a .json file, a rule as JSON text, or a shipped target.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, in operations.")] = False,
) -> None:
    """Count the operations of one generation of a model of the paper, 2 per multiply-add; no weights are needed."""
    from tuner.commands.flops import flops_report

    typer.echo(flops_report(model, similarity, schedule, as_json))


@app.command()
def solve(
    target_speedup: Annotated[
        list[float] | None, typer.Option(help="One or more: --target-speedup 1.1 1.2 1.3.", metavar="X...")
    ] = None,
    more_targets: Annotated[list[float] | None, typer.Argument(metavar="[X...]", hidden=True)] = None,
    profile: Annotated[Path | None, typer.Option(help="Profile that `profile` or a run wrote.")] = None,
    similarity: Annotated[
        Path | None, typer.Option(help="Published similarity table instead; speed is then counted in operations.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Model of the published table.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for the schedules.")] = None,
) -> None:
    """Find schedules for several targets from a saved profile, in seconds and without a device.

    Nothing is measured: the schedules are not certified. Exit code 3 when no target can be met.
    """
    targets = [*(target_speedup or []), *(more_targets or [])]
    console = Console()
    if profile is not None and similarity is None and model is None:
        from tuner.commands.solve import solve_profile, targets_table

        solved = solve_profile(profile, targets, output)
        console.print(targets_table(solved))
        console.print(f"uncertified schedules and frontier.json in {solved.folder}", highlight=False)
    elif similarity is not None and model is not None and profile is None:
        from tuner.paper import published

        answer = published.solve_published(similarity, model, targets, output)
        console.print(published.targets_table(answer), published.comparison_table(answer), sep="\n")
        console.print(published.PROXY, highlight=False)
    else:
        raise UsageError("Give --profile, or --similarity with --model.")


@app.command()
def certify(
    schedule: Annotated[str, typer.Argument(help="Artifact file, or a shipped target such as x1.30.")],
    model: Annotated[str, typer.Option("--model")],
    target_speedup: Annotated[float | None, typer.Option(help="Speed-up to check [the artifact's own].")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the check [runs/certify-MODEL-SCHEDULE].")] = None,
    budget: Annotated[float, typer.Option(help="What may be spent, in unaccelerated generations.")] = 2.6,
    resume: Annotated[bool, typer.Option(help="Go on from what the output folder already holds.")] = False,
    device: Device = "cpu",
    weights: Weights = None,
    offload: Offload = OffloadChoice.NONE,
    attention_backend: Backend = None,
    lpips_weights: LpipsWeights = None,
) -> None:
    """Check an artifact again on this machine with a held-out pair, or with more where the budget holds them.

    Costs about 2 generations; an artifact without evidence needs a budget of 5.

    Exit codes: 0 certified here, 2 bad input, 3 slower than the target, 4 quality gate failed, 5 too noisy, 6 the
    artifact does not fit the model or its workload, 7 budget too small.
    """
    from tuner.commands.certify import print_recheck, recheck, require_certified, target_of
    from tuner.package import read_artifact
    from tuner.report.console import LiveProgress
    from tuner.run.context import TuneOptions

    artifact = read_artifact(schedule, model)
    options = TuneOptions(
        model=model,
        target_speedup=target_of(artifact) if target_speedup is None else target_speedup,
        output=output or Path("runs") / f"certify-{model}-{Path(schedule).name.removesuffix('.json')}",
        budget=budget,
        resume=resume,
        device=device,
        command=shlex.join(["asymrnr-tune", *sys.argv[1:]]),
        load=_load_options(weights, offload, attention_backend),
        lpips_weights=lpips_weights,
    )
    with LiveProgress() as progress:
        checked = recheck(artifact, options, progress)
    console = Console()
    print_recheck(checked, console)
    console.print(f"evidence in {checked.path}", highlight=False)
    require_certified(checked)


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")]) -> None:
    """Write the report of a finished run again from its measurements; nothing is measured."""
    from tuner.commands.report import report_of
    from tuner.report.console import LiveProgress

    with LiveProgress() as progress:
        path = report_of(folder, progress)
    Console().print(f"report in {path}")


def _load_options(weights: Path | None, offload: OffloadChoice, attention_backend: str | None) -> LoadOptions:
    from tuner.models import LoadOptions

    return LoadOptions(weights, offload.value, attention_backend)


def main() -> None:
    """Entry point: every expected failure is one sentence on stderr and its documented exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    console = Console(stderr=True, soft_wrap=True)
    try:
        code = app(standalone_mode=False)  # typer turns Ctrl-C into a code of its own
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code if isinstance(code, int) else 0)
    except TunerError as error:
        console.print(f"[bold red]error:[/] {error}", highlight=False)
        sys.exit(error.exit_code)
    except AsymRnRError as error:
        console.print(f"[bold red]error:[/] {error}", highlight=False)
        sys.exit(UsageError.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        console.print("interrupted; everything measured is kept, add --resume to go on from it", highlight=False)
        sys.exit(INTERRUPTED)
    except typer.TyperException as error:
        console.print(f"[bold red]error:[/] {error.format_message()}", highlight=False)
        sys.exit(UsageError.exit_code)
