"""Full-size transformers with random weights at the paper's workloads: matching beside attention, and the paper's
schedules (Table 8) predicted against realised.

    python benchmarks/full_size.py            # needs a CUDA device; without one it only says so
    python benchmarks/full_size.py --only cogvideox-2b --blocks 0
    python benchmarks/full_size.py --quick    # small transformers of the same classes, on any device

One cache window of steps is timed, the one that the schedule reduces most, and uniform schedules that restore with
memory or broadcast. Blocks are alike, so a few of them, spread evenly, tell what all of them (`--blocks 0`) take.
Weights are random, so that nothing follows about quality. Writes `benchmarks/results/full_size.json`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import diffusers
import numpy as np
import torch
from restoration import Uniform
from rich.progress import track
from timing import Row, judge, parse_arguments, report

import asymrnr
from asymrnr import Action
from asymrnr.partition import Grid
from asymrnr.schedule import Schedule
from tuner.latency.micro import latency_model, look_at_sites, measure_sites
from tuner.paper.architectures import find_architecture
from tuner.run.estimate import relative_mad
from tuner.strides import stride_name

MATCHING_TARGET, REALISED_TARGET = 0.03, 0.9
QUICK_GRID: Grid = (4, 6, 6)
MEMORY_RATE, PERIOD = 0.7, 3  # of the uniform schedules
Inputs = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Case:
    """A transformer class, whose default configuration is the full size, and what it is called with.

    Attributes:
        build: the transformer; the arguments make it small.
        small: arguments of a small one.
        inputs: from (batch, grid, text tokens, device, small), without the timestep.
        layers: arguments that say how many blocks there are, and their full numbers, in the order of the rate tables.
    """

    build: Callable[..., torch.nn.Module]
    small: dict[str, Any]
    inputs: Callable[[int, Grid, int, str, bool], Inputs]
    layers: dict[str, int]

    def rows(self, blocks: int) -> np.ndarray:
        """Rows of the rate tables that so many blocks, spread evenly, stand for; 0 means all."""
        total = sum(self.layers.values())
        return np.linspace(0, total - 1, min(blocks or total, total)).round().astype(int)

    def layers_of(self, rows: np.ndarray) -> dict[str, int]:
        """The arguments that give a transformer these rows."""
        ends = np.cumsum(list(self.layers.values()))
        kinds = np.searchsorted(ends, rows, side="right")
        return {name: int((kinds == kind).sum()) for kind, name in enumerate(self.layers)}


def cogvideox_inputs(batch: int, grid: Grid, text: int, device: str, small: bool) -> Inputs:
    frames, height, width = grid
    return {
        "hidden_states": torch.randn(batch, frames, 4 if small else 16, 2 * height, 2 * width, device=device),
        "encoder_hidden_states": torch.randn(batch, text, 16 if small else 4096, device=device),
    }


def mochi_inputs(batch: int, grid: Grid, text: int, device: str, small: bool) -> Inputs:
    frames, height, width = grid
    return {
        "hidden_states": torch.randn(batch, 4 if small else 12, frames, 2 * height, 2 * width, device=device),
        "encoder_hidden_states": torch.randn(batch, text, 8 if small else 4096, device=device),
        "encoder_attention_mask": torch.ones(batch, text, device=device),
    }


def hunyuan_inputs(batch: int, grid: Grid, text: int, device: str, small: bool) -> Inputs:
    frames, height, width = grid
    return {
        "hidden_states": torch.randn(batch, 4 if small else 16, frames, 2 * height, 2 * width, device=device),
        "encoder_hidden_states": torch.randn(batch, text, 8 if small else 4096, device=device),
        "encoder_attention_mask": torch.ones(batch, text, dtype=torch.long, device=device),
        "pooled_projections": torch.randn(batch, 8 if small else 768, device=device),
        "guidance": torch.full((batch,), 6000.0, device=device),
    }


HEADS: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 16}
CASES = {
    "cogvideox-2b": Case(
        diffusers.CogVideoXTransformer3DModel,
        {**HEADS, "in_channels": 4, "out_channels": 4, "time_embed_dim": 8, "text_embed_dim": 16, "sample_width": 12}
        | {"sample_height": 12, "sample_frames": 13, "max_text_seq_length": 8},
        cogvideox_inputs,
        {"num_layers": 30},
    ),
    "mochi": Case(
        diffusers.MochiTransformer3DModel,
        {**HEADS, "pooled_projection_dim": 16, "in_channels": 4, "text_embed_dim": 8, "time_embed_dim": 8}
        | {"max_sequence_length": 8},
        mochi_inputs,
        {"num_layers": 48},
    ),
    "hunyuanvideo": Case(
        diffusers.HunyuanVideoTransformer3DModel,
        {**HEADS, "in_channels": 4, "out_channels": 4, "text_embed_dim": 8, "pooled_projection_dim": 8}
        | {"rope_axes_dim": (4, 6, 6)},
        hunyuan_inputs,
        {"num_layers": 20, "num_single_layers": 40},
    ),
}


class Denoiser:
    """A transformer on fixed inputs, timed like a pipeline's steps (see `tuner.run.runner.Runner.time_steps`)."""

    def __init__(self, model: torch.nn.Module, inputs: Inputs, batch: int) -> None:
        self.pipe = model
        self.denoisers = [model]
        self.device = next(iter(inputs.values())).device
        self.inputs = inputs
        self.batch = batch

    @torch.inference_mode()
    def time_steps(self, steps: int, prompt: str = "") -> np.ndarray:
        """Seconds of every step."""
        seconds = []
        for step in range(steps):
            timestep = torch.full((self.batch,), 900 - step, dtype=torch.long, device=self.device)
            synchronise()
            start = time.perf_counter()
            self.pipe(timestep=timestep, return_dict=False, **self.inputs)
            synchronise()
            seconds.append(time.perf_counter() - start)
        return np.array(seconds)


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def reset_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak() -> int:
    """Most bytes allocated since `reset_peak`; 0 without a CUDA device."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0


def busiest_window(schedule: Schedule, blocks: np.ndarray) -> Schedule:
    """The cache window that is reduced most, as a schedule of its own for some of the blocks."""
    kept = math.prod(1 - table.mean(0) for table in schedule.rates.values())
    starts = range(0, schedule.steps - schedule.cache_step + 1, schedule.cache_step)
    start = min(starts, key=lambda s: float(np.mean(kept[s : s + schedule.cache_step])))
    window = slice(start, start + schedule.cache_step)
    rates = {name: table[blocks, window] for name, table in schedule.rates.items()}
    return replace(schedule, rates=rates, timesteps=None, form="table")


def measure(name: str, device: str, small: bool, rounds: int, blocks: int) -> list[Row]:
    """Rows of one model."""
    case, architecture = CASES[name], find_architecture(name)
    chosen = case.rows(blocks)
    grid, text = (QUICK_GRID, 8) if small else (architecture.grid, architecture.text_tokens)
    batch = architecture.cfg_batches
    torch.manual_seed(0)
    dtype = torch.float32 if small else torch.bfloat16
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            arguments = case.layers_of(chosen) | (case.small if small else {})
            model = case.build(**arguments).eval().requires_grad_(False)
            inputs = case.inputs(batch, grid, text, device, small)
    finally:
        torch.set_default_dtype(torch.float32)
    denoiser = Denoiser(model, inputs, batch)
    schedules = {row: busiest_window(asymrnr.load(name, row), chosen) for row in ("paper-base", "paper-fast")}
    stride = stride_name(schedules["paper-base"].stride)
    first = schedules["paper-base"]
    for uniform in (Uniform(Action.MEMORY, MEMORY_RATE, period=PERIOD), Uniform(Action.BROADCAST, period=PERIOD)):
        schedules[str(uniform)] = replace(uniform.schedule(first.blocks, PERIOD), stride=first.stride)
    seen = look_at_sites(denoiser, "")  # type: ignore[arg-type]
    sites = measure_sites(seen, [stride], torch.device(device))
    plain = denoiser.time_steps(first.steps)
    matching = 2 * float(sites.matching_seconds(stride).sum()) / sites.full_seconds
    text_of = f"{math.prod(grid)} tokens, {sites.blocks} of {sum(case.layers.values())} blocks, batch {batch}"
    target = None if small else MATCHING_TARGET
    text_of += f"; every {first.steps} steps"
    rows = [judge(name, "matching Q and V / attention", matching / first.steps, target, text_of)]
    share = sites.full_seconds / float(np.median(plain))
    rows.append(judge(name, "attention calls / step", share, text=f"a step takes {float(np.median(plain)):.2f} s"))
    for row, schedule in schedules.items():
        ratios, steps = [], schedule.steps
        predicted = latency_model(sites, float(np.median(plain)), steps, seen.attention_share)
        for _ in range(rounds):
            reset_peak()
            before = denoiser.time_steps(steps).sum()
            beyond = -peak()
            with asymrnr.apply(model, schedule) as handle:
                reset_peak()
                reduced = denoiser.time_steps(steps).sum()
                beyond += peak()
                kept = handle.summary().memory_bytes
            ratios.append((before + denoiser.time_steps(steps).sum()) / 2 / reduced)
        realised, promised = float(np.median(ratios)), predicted.speedup(schedule)
        detail = f"{realised:.3f}x of {promised:.3f}x predicted, attention {schedule.attention_cost():.2f}"
        detail += f", peak {beyond / 2**30:+.2f} GiB, kept to restore {kept / 2**30:.2f} GiB"
        at_least = None if small else REALISED_TARGET
        spread = relative_mad(np.array(ratios))
        rows.append(
            judge(f"{name}, {row}", "realised / predicted", realised / promised, None, detail, at_least, spread=spread)
        )
    return rows


def main() -> None:
    arguments = parse_arguments(__doc__, "full_size", rounds=3, only=tuple(CASES), blocks=6)
    rows: list[Row] = []
    notes = ["Random weights; one cache window of steps. bfloat16."]
    if arguments.quick or arguments.device.startswith("cuda"):
        for name in track(arguments.only, description="full size"):
            rows += measure(name, arguments.device, arguments.quick, arguments.rounds, arguments.blocks)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
    else:
        notes = ["Not run: no CUDA device."]
    report(rows, arguments, notes)


if __name__ == "__main__":
    main()
