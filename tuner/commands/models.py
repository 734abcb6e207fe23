"""`asymrnr-tune models`: what can be tuned, how large it is, and what is there already."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table

if TYPE_CHECKING:
    from tuner.models import ModelEntry


def models() -> None:
    """List the models: workload, tokens that attend to each other, weights, shipped schedules with their speed-ups."""
    from tuner.models import REGISTRY, weights_status

    table = Table.grid(Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2))
    for entry in REGISTRY.values():
        size = "; ".join(filter(None, (str(entry.workload), tokens(entry))))
        lines = [size, f"weights: {weights_status(entry.weights)}", *shipped(entry.name)]
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


def shipped(model: str) -> list[str]:
    """A line for every shipped profile of a model: its name, and the speed-ups that it is certified for."""
    from asymrnr.find import available_profiles
    from asymrnr.shipped import load_shipped

    lines = []
    for name in available_profiles().get(model, []):
        certified = [f"{point.target:g}x" for point in load_shipped(model, name).points() if point.proven]
        lines.append(f"schedule {name}: {'certified for ' + ', '.join(certified) if certified else 'not certified'}")
    return lines
