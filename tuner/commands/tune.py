"""`asymrnr-tune` without a command: the whole job."""

from __future__ import annotations

from importlib.metadata import version as installed
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tuner.commands.options import (
    ActionChoices,
    ActionsChoice,
    Also,
    Backend,
    Compare,
    Device,
    Frames,
    Height,
    Lease,
    Loras,
    LpipsWeights,
    Memory,
    Offload,
    OffloadChoice,
    Partner,
    Prompts,
    Quantize,
    Resume,
    Seed,
    Steps,
    Store,
    Weights,
    Width,
    Workers,
    command_line,
    load_options,
    speedup_from,
    workload_options,
)
from tuner.errors import UsageError


def print_version(asked: bool) -> None:
    """The callback of --version."""
    if asked:
        typer.echo(f"asymrnr {installed('asymrnr')}")
        raise typer.Exit()


def tune(
    ctx: typer.Context,
    model: Annotated[
        str | None, typer.Option("--model", help="Name of a model; `asymrnr-tune models` lists them.")
    ] = None,
    target_speedup: Annotated[
        float | None, typer.Option(parser=speedup_from, metavar="X", help="Denoising speed-up to certify, e.g. 1.3.")
    ] = None,
    also: Also = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run.", show_default="runs/MODEL[-WORKLOAD]-xTARGET")
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            help="What may be spent, in unaccelerated generations.",
            show_default="55, and 25 for every --also; 12 each where a generation takes 20 min",
        ),
    ] = None,
    seed: Seed = 0,
    trials: Annotated[int, typer.Option(help="Surrogate trials of one search.")] = 300,
    actions: ActionChoices = ActionsChoice.ALL,
    memory: Memory = None,
    partner: Partner = None,
    compare: Compare = False,
    price: Annotated[
        float | None,
        typer.Option(help="Of an hour of the device: progress then shows money beside time."),
    ] = None,
    steps: Steps = None,
    frames: Frames = None,
    height: Height = None,
    width: Width = None,
    prompts: Prompts = None,
    resume: Resume = False,
    device: Device = "cpu",
    weights: Weights = None,
    offload: Offload = OffloadChoice.NONE,
    attention_backend: Backend = None,
    lora: Loras = None,
    quantize: Quantize = None,
    lpips_weights: LpipsWeights = None,
    workers: Workers = None,
    store: Store = None,
    lease: Lease = 600.0,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=print_version, help="Print the version and stop.")
    ] = False,
) -> None:
    """Profile a model, search a schedule for a target speed-up, verify it and certify it on held-out prompts.

    Exit codes: 0 certified, 1 internal error, 2 bad input, 3 target infeasible, 4 quality gate failed, 5 too noisy,
    6 environment mismatch, 7 budget exhausted.
    """
    if ctx.invoked_subcommand is not None:
        return
    if model is None or target_speedup is None:
        raise UsageError("Give --model and --target-speedup, or one of the commands that --help lists.")
    if trials < 1:
        raise UsageError(f"--trials is {trials}; give at least 1.")
    if not lease > 0:
        raise UsageError(f"--lease is {lease:g}; give more than 0 seconds.")
    if price is not None and not price >= 0:
        raise UsageError(f"--price is {price:g}; give what an hour of the device costs, 0 or more.")
    from tuner.context import ALSO_IE, BUDGET, TuneOptions, partner_asked
    from tuner.models import find_model
    from tuner.pipeline import tune as run
    from tuner.report.console import LiveProgress
    from tuner.report.run import print_summary

    workload = workload_options(steps, frames, height, width, prompts)
    options = TuneOptions(
        model=model,
        target_speedup=target_speedup,
        output=output or Path("runs") / f"{workload.name(find_model(model))}-x{target_speedup:.2f}",
        budget=BUDGET + ALSO_IE * len(also or ()) if budget is None else budget,
        budget_chosen=budget is not None,
        seed=seed,
        trials=trials,
        resume=resume,
        device=device,
        command=command_line(),
        load=load_options(weights, offload, attention_backend, lora, quantize),
        lpips_weights=lpips_weights,
        workload=workload,
        actions=actions.value,
        memory=memory,
        partner=partner_asked(partner, actions.value),
        compare=compare,
        also=tuple(also or ()),
        workers=workers,
        store=store,
        lease=lease,
    )
    with LiveProgress(price=price) as progress:
        outcome = run(options, progress)
    print_summary(outcome, Console())
