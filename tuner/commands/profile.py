"""`asymrnr-tune profile`: one observed generation, as a file and as figures."""

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
    Model,
    Offload,
    OffloadChoice,
    Prompts,
    Quantize,
    Seed,
    Steps,
    Weights,
    Width,
    load_options,
    workload_options,
)
from tuner.commands.validation import require_writable


def profile(
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write, .safetensors.")] = Path(
        "profile.safetensors"
    ),
    seed: Seed = 0,
    steps: Steps = None,
    frames: Frames = None,
    height: Height = None,
    width: Width = None,
    prompts: Prompts = None,
    device: Device = "cpu",
    weights: Weights = None,
    offload: Offload = OffloadChoice.NONE,
    attention_backend: Backend = None,
    lora: Loras = None,
    quantize: Quantize = None,
) -> None:
    """Profile one generation: similarities, divergences, error curves; heat-maps are written beside the file."""
    require_writable(output, ".safetensors")
    from tuner.models import find_model, load_pipeline
    from tuner.opening import open_scratch
    from tuner.profile.watch import observe_generation
    from tuner.report.console import LiveProgress
    from tuner.report.plots import save_figures
    from tuner.report.profile_plots import profile_figures
    from tuner.run.runner import Runner
    from tuner.search.space import load_space_of
    from tuner.stages.preflight import measure_latency
    from tuner.stages.profile import settings_for

    entry = workload_options(steps, frames, height, width, prompts).of(find_model(model))
    options = load_options(weights, offload, attention_backend, lora, quantize)
    space = load_space_of(entry)
    with LiveProgress() as progress:
        progress.stage("load", model)
        runner = Runner(load_pipeline(model, device, options), entry)
        progress.stage("time", "attention, matching, gathering, and a few steps")
        with open_scratch(runner, space) as ctx:
            timed = measure_latency(ctx)
        progress.stage("profile", "one observed generation")
        settings = settings_for(space, entry.workload.steps, seed)
        profiled, _ = observe_generation(runner, settings, seed, timed, progress.advance)
    profiled.save(output)
    figures = output.with_name(output.stem + "-figures")
    save_figures(profile_figures(profiled), figures)
    Console().print(f"profile in {output}, heat-maps in {figures}")
