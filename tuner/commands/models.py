"""`asymrnr-tune models`: what can be tuned, how large it is, and what is there already."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table

if TYPE_CHECKING:
    from tuner.models import ModelEntry


A_CARD = {"a100": "an A100", "h100": "an H100"}


def models() -> None:
    """List the models: workload, tokens that attend to each other, operations, weights, shipped schedules."""
    from tuner.models import REGISTRY, weights_status

    table = Table.grid(Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2))
    for entry in REGISTRY.values():
        size = "; ".join(filter(None, (str(entry.workload), tokens(entry))))
        lines = [size, *operations(entry.name), f"weights: {weights_status(entry.weights)}"]
        lines += [*memory(entry), *shipped(entry.name)]
        table.add_row(f"[bold]{entry.name}[/]", "\n".join(lines))
    Console().print(table, highlight=False)


def tokens(entry: ModelEntry) -> str:
    """The token grid of a model's workload and how many tokens attend to each other; nothing where it is not known."""
    grid = entry.sizes.grid(entry.workload)
    if grid is None:
        return ""
    frames, height, width = grid
    if entry.sizes.frames_apart:
        return f"{height * width:,} tokens a frame ({height}x{width})"
    return f"{math.prod(grid):,} tokens ({frames}x{height}x{width})"


def memory(entry: ModelEntry) -> list[str]:
    """A line that says how much the weights take, which is the least there is to download; none where not known."""
    from tuner.models.figures import FIGURES

    if entry.name not in FIGURES:
        return []
    known, size = FIGURES[entry.name], entry.dtype.itemsize
    dtype = str(entry.dtype).removeprefix("torch.")
    return [f"{known.denoiser * size:.1f} GB of denoiser and {known.text * size:.1f} GB of text encoder in {dtype}"]


def operations(model: str) -> list[str]:
    """A line that says what a generation takes, and how much of that can be spared; none where it is not counted."""
    from tuner.commands.flops import amount
    from tuner.models.figures import FIGURES
    from tuner.paper.architectures import ARCHITECTURES
    from tuner.paper.counter import count_flops

    if model not in ARCHITECTURES:
        return []
    count = count_flops(ARCHITECTURES[model])
    share = f"{count.attention_flops / count.baseline_flops:.0%} of it attention"
    known, time = FIGURES.get(model), ""
    if known is not None and known.seconds is not None and known.card is not None:
        time = f"; {known.seconds / 60:.1f} min on {A_CARD[known.card]} (paper)"
    return [f"{amount(count.baseline_flops).strip()} a generation, {share}{time}"]


def shipped(model: str) -> list[str]:
    """A line for every shipped profile of a model: its name, and the speed-ups that it is certified for."""
    from asymrnr.find import available_profiles
    from asymrnr.shipped import load_shipped

    lines = []
    for name in available_profiles().get(model, []):
        certified = [f"{point.target:g}x" for point in load_shipped(model, name).points() if point.proven]
        lines.append(f"schedule {name}: {'certified for ' + ', '.join(certified) if certified else 'not certified'}")
    return lines
