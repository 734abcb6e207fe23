"""Draws the figures of the concept pages from a run on the embedded model.

    python docs/figures.py [runs/tiny-cogvideox-x1.20]

The run is that of the tutorial; one more generation is watched for what is dropped.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import asymrnr
from asymrnr.partition import make_partition
from asymrnr.reduction import Match
from tuner.models import find_model, load_pipeline
from tuner.profile.profile import Profile
from tuner.run.runner import Runner

HERE = Path(__file__).parent / "concepts"
RUN = Path("runs/tiny-cogvideox-x1.20")
MODEL = "tiny-cogvideox"
PROMPT, SEED = "a yellow circle moving slowly right on a checkered teal background", 5
BLOCK, STEP, RATE, STRIDE = 3, 15, 0.6, (2, 2, 2)
SHOWN = 4  # frames


def watch(runner: Runner) -> tuple[np.ndarray, asymrnr.AttentionCall]:
    """A video (frames, height, width, 3) in [0, 1], and the attention call of one block at one step."""
    seen: list[asymrnr.AttentionCall] = []

    def observer(call: asymrnr.AttentionCall) -> None:
        if (call.block, call.step) == (BLOCK, STEP):
            seen.append(call)

    with asymrnr.observe(runner.pipe, observer):
        video = runner.generate(PROMPT, SEED).video
    return np.moveaxis(np.asarray(video), 1, -1), seen[0]


def draw_dropped(video: np.ndarray, call: asymrnr.AttentionCall) -> Figure:
    """Some frames of tokens over their pictures: destinations framed, sources that are dropped dark."""
    partition = make_partition(call.grid, STRIDE, torch.Generator().manual_seed(0))
    plan = Match.of(call.query[:, :, call.video].float(), partition).plan(RATE)
    frames, rows, columns = call.grid
    kept = torch.zeros(frames * rows * columns, dtype=torch.bool)
    kept[plan.take[0, 0].long()] = True
    destination = torch.zeros_like(kept)
    destination[partition.dst] = True
    figure = Figure(figsize=(2.4 * SHOWN, 3), layout="constrained")
    for place, frame in enumerate(np.linspace(0, frames - 1, SHOWN).round().astype(int)):
        axes = figure.add_subplot(1, SHOWN, place + 1)
        picture = video[round(frame * (len(video) - 1) / max(1, frames - 1))]
        axes.imshow(picture, extent=(0, columns, rows, 0))
        gone = ~kept.view(frames, rows, columns)[frame].numpy()
        axes.imshow(np.dstack([np.zeros((rows, columns, 3)), 0.6 * gone]), extent=(0, columns, rows, 0))
        for row, column in np.argwhere(destination.view(frames, rows, columns)[frame].numpy()):
            axes.add_patch(_frame(row, column))
        axes.set_title(f"tokens of frame {frame + 1}", fontsize="small")
        axes.set(xticks=[], yticks=[], xlim=(0, columns), ylim=(rows, 0))
    where = f"Queries of block {BLOCK + 1}, step {STEP + 1}, first head"
    figure.suptitle(f"{where}: dark ones are dropped (rate {RATE:g}), framed ones are destinations", fontsize="medium")
    return figure


def _frame(row: int, column: int) -> Rectangle:
    return Rectangle((column + 0.1, row + 0.1), 0.8, 0.8, fill=False, edgecolor="white", linewidth=1)


def draw_actions(profile: Profile) -> Figure:
    """Median error of copying, memory and broadcasting over blocks and steps, by steps since the last full one."""
    stride = next(iter(profile.memory_error))
    rate = int(np.argmin(np.abs(profile.rates - RATE)))
    memory, broadcast = profile.memory_error[stride], profile.broadcast_error[stride]
    copy = profile.q_error[min(key for key in profile.q_error if key[0] == stride)]
    gaps = np.arange(1, memory.shape[2] + 1)
    figure = Figure(figsize=(6.5, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.semilogy(gaps, np.full(len(gaps), np.nanmedian(copy[..., rate])), "o-", label=f"copy, rate {RATE:g}")
    axes.semilogy(gaps, np.nanmedian(broadcast, axis=(0, 1)), "s-", label="broadcast")
    axes.semilogy(gaps, np.nanmedian(memory[..., rate], axis=(0, 1)), "^-", label=f"memory, rate {RATE:g}")
    axes.set(xlabel="steps since the last full one", ylabel="relative squared error")
    axes.set_xticks(gaps)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def draw_pairs(artifact: asymrnr.Artifact) -> Figure:
    """Pairs, point and bound of every certified schedule of an artifact."""
    certified = [(point.target, point.evidence) for point in artifact.points() if point.evidence is not None]
    figure = Figure(figsize=(6.5, 0.9 + 0.6 * len(certified)), layout="constrained")
    axes = figure.add_subplot()
    for row, (target, evidence) in enumerate(certified):
        pairs = np.array(evidence.pair_speedups)
        axes.plot(pairs, np.full(len(pairs), row), "o", color="C0", alpha=0.6)
        low, point = evidence.speedup.lower_bound_95, evidence.speedup.point
        assert low is not None
        assert point is not None
        axes.plot([low, point], [row - 0.22] * 2, "-", color="black")
        axes.plot([point], [row - 0.22], "|", color="black", markersize=9)
        axes.plot(np.full(2, target), [row - 0.35, row + 0.25], ":", color="C3")
    axes.set_yticks(range(len(certified)), [f"target {target:g}x" for target, _ in certified])
    axes.set(xlabel="speed-up of the denoising loop", ylim=(-0.6, len(certified) - 0.4))
    axes.plot([], [], "o", color="C0", alpha=0.6, label="a pair")
    axes.plot([], [], "-", color="black", label="from the 95 % bound to the estimate")
    axes.plot([], [], ":", color="C3", label="target")
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize="small")
    return figure


def main() -> None:
    run = Path(sys.argv[1]) if len(sys.argv) > 1 else RUN
    profile = Profile.load(run / "profile.safetensors")
    runner = Runner(load_pipeline(MODEL), find_model(MODEL))
    figures = {
        "dropped": draw_dropped(*watch(runner)),
        "actions": draw_actions(profile),
        "pairs": draw_pairs(asymrnr.load_artifact(Path("profiles") / MODEL / "30-steps.json")),
    }
    for name, figure in figures.items():
        figure.savefig(HERE / f"{name}.svg")


if __name__ == "__main__":
    main()
