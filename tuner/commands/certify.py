"""`asymrnr-tune certify`: does a schedule hold on this machine?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tuner.commands.options import (
    Backend,
    Device,
    Frames,
    Height,
    Loras,
    LpipsWeights,
    Model,
    Offload,
    OffloadChoice,
    Prompts,
    Quantize,
    Resume,
    Steps,
    Weights,
    Width,
    command_line,
    load_options,
    speedup_from,
    workload_options,
)


def certify(
    schedule: Annotated[str, typer.Argument(help="Artifact file, or a shipped profile such as 30-steps.")],
    model: Model,
    target_speedup: Annotated[
        float | None,
        typer.Option(
            parser=speedup_from,
            metavar="X",
            help="Speed-up to check, by the slowest of its schedules for at least that.",
            show_default="the artifact's own",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the check.", show_default="runs/certify-MODEL[-WORKLOAD]-SCHEDULE")
    ] = None,
    budget: Annotated[
        float,
        typer.Option(
            help="What may be spent, in unaccelerated generations: 24 holds up to twelve pairs; 3 is a spot check of "
            "one pair without an interval."
        ),
    ] = 24.0,
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
) -> None:
    """Check an artifact again on this machine, with as many held-out pairs as it takes and the budget holds.

    Steps and size are those the schedule was made for. Fewer than four pairs are a spot check: nothing is certified,
    and it ends with 0 when nothing contradicts.

    Exit codes: 0 certified here (or not contradicted), 2 bad input, 3 slower than the target, 4 quality gate failed,
    5 too noisy, 6 the artifact does not fit the model or its workload, 7 budget too small to decide.
    """
    from tuner.commands.recheck import print_recheck, recheck, target_of
    from tuner.context import TuneOptions
    from tuner.models import find_model
    from tuner.package import read_artifact, workload_for
    from tuner.report.console import LiveProgress

    artifact = read_artifact(schedule, model)
    if target_speedup is not None and any(point.target >= target_speedup for point in artifact.points()):
        artifact = artifact.at(target_speedup)
    workload = workload_for(artifact, model, workload_options(steps, frames, height, width, prompts))
    name = f"certify-{workload.name(find_model(model))}-{Path(schedule).name.removesuffix('.json')}"
    options = TuneOptions(
        model=model,
        target_speedup=target_of(artifact) if target_speedup is None else target_speedup,
        output=output or Path("runs") / name,
        budget=budget,
        resume=resume,
        device=device,
        command=command_line(),
        load=load_options(weights, offload, attention_backend, lora, quantize),
        lpips_weights=lpips_weights,
        workload=workload,
    )
    with LiveProgress() as progress:
        checked = recheck(artifact, options, progress)
    console = Console()
    print_recheck(checked, console)
    console.print(f"evidence in {checked.path}", highlight=False)
    if checked.error is not None:
        raise checked.error
