"""The unit of evidence: one prompt and seed generated twice at the same time, plain and with a schedule."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch

from asymrnr.actions import Action
from asymrnr.schedule import Schedule
from tuner.run.estimate import PairedSteps, PairEstimate, estimate_pair
from tuner.run.runner import Generation
from tuner.run.store import Record

Mode = Literal["lock-step", "alternating"]


@dataclass(frozen=True)
class Side:
    """One of the two generations, as kept in the store.

    Attributes:
        pixels: (frames, 3, height, width) uint8, on disk until they are looked at.
        latents: final latents.
        step_seconds: (steps,) wall time of every denoising step.
        seconds: wall time of the whole call, text encoder and decoder included.
    """

    pixels: torch.Tensor
    latents: torch.Tensor
    step_seconds: np.ndarray
    seconds: float

    @property
    def video(self) -> torch.Tensor:
        """(frames, 3, height, width) in [0, 1], made anew each time: four times as large as what is kept."""
        return self.pixels.float().div_(255)


@dataclass(frozen=True)
class Pair:
    """One pair.

    Attributes:
        prompt, seed: of both.
        plain, tuned: without and with the schedule.
        attention: (steps,) share of every step's attention that the schedule leaves.
        broadcast: (steps,) share of the blocks that broadcast.
        matchings: (steps,) features matched, mean over the blocks.
        skipped: (steps,) share of the blocks that a cache left out.
        memory_bytes: most that the tuned generation kept for later steps; None where an earlier release recorded none.
        reduced_sites: how many (feature, block, step) sites were reduced, and (block, step) sites broadcast, or left
            out by a cache.
        mode: "lock-step" when both advanced in turn; "alternating" when one ran after the other.
        key_hash: names its record in the store.
    """

    prompt: str
    seed: int
    plain: Side
    tuned: Side
    attention: np.ndarray
    broadcast: np.ndarray
    matchings: np.ndarray
    skipped: np.ndarray
    memory_bytes: int | None
    reduced_sites: int
    mode: Mode
    key_hash: str

    @cached_property
    def denoise(self) -> PairEstimate:
        """Speed-up of the denoising steps."""
        seconds = self.plain.step_seconds, self.tuned.step_seconds
        return estimate_pair(PairedSteps(*seconds, self.attention, self.broadcast, self.matchings, self.skipped))

    @property
    def end_to_end(self) -> float:
        """Log speed-up of the whole calls, their denoising steps counted as `denoise` has them."""
        n = len(self.plain.step_seconds)
        steps = n * float(np.median(self.plain.step_seconds))
        around = [max(0.0, side.seconds - float(side.step_seconds.sum())) for side in (self.plain, self.tuned)]
        return float(np.log((steps + around[0]) / (steps / self.denoise.speedup + around[1])))


def to_record(
    plain: Generation, tuned: Generation, schedule: Schedule, mode: Mode
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Values and arrays for the store."""
    summary = tuned.summary
    sites: list[Any] = []
    if summary is not None:
        sites = [*summary.reduced.values(), summary.done.get(Action.BROADCAST, ()), summary.skipped]
    values: dict[str, Any] = {
        "mode": mode,
        "attention": schedule.attention_of_steps().tolist(),
        "broadcast": schedule.broadcast_of_steps().tolist(),
        "matchings": schedule.matchings_of_steps().tolist(),
        "skipped": [0.0] * schedule.steps if summary is None else (summary.skipped > 0).mean(axis=0).tolist(),
        "memory_bytes": None if summary is None else summary.memory_bytes,
        "reduced_sites": int(sum(np.count_nonzero(table) for table in sites)),
    }
    arrays = {}
    for name, generation in (("plain", plain), ("tuned", tuned)):
        values[name] = {"step_seconds": generation.step_seconds.tolist(), "seconds": generation.seconds}
        frames = [(frame * 255).round_().clamp_(0, 255).byte() for frame in generation.video]
        arrays[f"{name}_video"] = torch.stack(frames).numpy()
        arrays[f"{name}_latents"] = generation.latents.numpy()
    return values, arrays


def from_record(record: Record) -> Pair:
    """The pair as it was recorded."""

    def side(name: str) -> Side:
        return Side(
            pixels=torch.from_numpy(record.arrays[f"{name}_video"]),
            latents=torch.from_numpy(record.arrays[f"{name}_latents"]),
            step_seconds=np.array(record.values[name]["step_seconds"]),
            seconds=record.values[name]["seconds"],
        )

    def shares(*names: str) -> np.ndarray:  # earlier releases recorded none, or under another name
        found = (record.values[name] for name in names if name in record.values)
        return np.array(next(found, [0.0] * len(record.values["attention"])))

    return Pair(
        prompt=record.key["prompt"],
        seed=record.key["seed"],
        plain=side("plain"),
        tuned=side("tuned"),
        attention=np.array(record.values["attention"]),
        broadcast=shares("broadcast"),
        matchings=shares("matchings", "refresh"),
        skipped=shares("skipped"),
        memory_bytes=record.values.get("memory_bytes"),
        reduced_sites=record.values["reduced_sites"],
        mode=record.values["mode"],
        key_hash=record.key_hash,
    )
