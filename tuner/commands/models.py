"""`asymrnr-tune models`: what can be tuned, how large it is, and what is there already."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table

if TYPE_CHECKING:
    from tuner.models import ModelEntry


TOOK = {  # seconds of one unaccelerated generation, and where; paper, tables 1 and 2
    "cogvideox-2b": (137.3, "an A100"),
    "cogvideox-5b": (347.5, "an A100"),
    "mochi": (201.85, "an H100"),
    "hunyuanvideo": (912.98, "an H100"),
    "fastvideo-hunyuan": (158.66, "an H100"),
}

# 10^9 parameters of denoiser and text encoders, counted from their classes with the released configurations: T5-XXL,
# umT5-XXL for Wan, and Llama 3 with CLIP-L for HunyuanVideo.
PARAMETERS = {
    "cogvideox-2b": (1.694, 4.762),
    "cogvideox-5b": (5.570, 4.762),
    "mochi": (10.028, 4.762),
    "hunyuanvideo": (12.821, 7.628),
    "fastvideo-hunyuan": (12.821, 7.628),
    "wan-1.3b": (1.419, 5.681),
    "ltx-video": (1.923, 4.762),
}


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
    if entry.name not in PARAMETERS:
        return []
    denoiser, text = (f"{billions * entry.dtype.itemsize:.1f} GB" for billions in PARAMETERS[entry.name])
    return [f"{denoiser} of denoiser and {text} of text encoder in {str(entry.dtype).removeprefix('torch.')}"]


def operations(model: str) -> list[str]:
    """A line that says what a generation takes, and how much of that can be spared; none where it is not counted."""
    from tuner.commands.flops import amount
    from tuner.paper.architectures import ARCHITECTURES
    from tuner.paper.counter import count_flops

    if model not in ARCHITECTURES:
        return []
    count = count_flops(ARCHITECTURES[model])
    share = f"{count.attention_flops / count.baseline_flops:.0%} of it attention"
    took = TOOK.get(model)
    time = "" if took is None else f"; {took[0] / 60:.1f} min on {took[1]} (paper)"
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
