"""`asymrnr-tune flops`: operations of one generation, as text or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

PETA, TERA = 1e15, 1e12


def flops(
    model: Annotated[str, typer.Option("--model", help="Name of a model; all of the registry but animatediff.")],
    similarity: Annotated[Path | None, typer.Option(help="Published similarity table, .safetensors.")] = None,
    schedule: Annotated[
        str | None, typer.Option(help="Artifact or rule as a .json file, a rule as JSON text, or a shipped target.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, in operations.")] = False,
) -> None:
    """Count the operations of one generation of a model, 2 per multiply-add; no weights are needed."""
    typer.echo(flops_report(model, similarity, schedule, as_json))


def flops_report(model: str, similarity: Path | None, schedule: str | None, as_json: bool) -> str:
    """Count the operations of one generation and say what they are.

    Args:
        model: see `find_architecture`.
        similarity: published similarity table that a threshold schedule refers to.
        schedule: see `read_schedule`; None counts the baseline.
        as_json: one JSON object, in operations (2 per multiply-add), instead of text.

    Raises:
        UsageError, ArtifactError, ScheduleError: something handed in is wrong.
    """
    from tuner.paper.architectures import find_architecture
    from tuner.paper.counter import count_flops
    from tuner.paper.schedules import read_schedule, read_similarity

    architecture = find_architecture(model)
    table = None if similarity is None else read_similarity(similarity, architecture)
    found = None if schedule is None else read_schedule(schedule, model, architecture, table)
    count = count_flops(architecture, found)
    if as_json:
        return json.dumps({"model": model, **asdict(count)})
    frames, height, width = architecture.grid
    lines = [
        f"{model}: {frames}x{height}x{width} video tokens, {architecture.text_tokens} text tokens, "
        f"{len(architecture.blocks)} blocks, {architecture.steps} steps, batch {architecture.cfg_batches}",
        f"baseline  {amount(count.baseline_flops)} per video, {count.attention_flops / count.baseline_flops:.0%} of it "
        "self-attention",
    ]
    if found is not None:
        share = count.flops / count.baseline_flops
        lines += [
            f"schedule  {amount(count.flops)} ({share:.1%} of the baseline)",
            f"matching  {amount(count.matching_flops)} on top",
        ]
    return "\n".join(lines)


def amount(flops: int) -> str:
    """Operations in the unit of full-size models, or that of small ones."""
    return f"{flops / PETA:9.3f} PFLOP" if flops >= PETA / 10 else f"{flops / TERA:9.3f} TFLOP"
