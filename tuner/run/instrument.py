"""Measurements that are charged to the budget, kept on disk, and never made twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from asymrnr.schedule import Schedule
from tuner.models import attention_backend_of, weights_identity
from tuner.run.ledger import Ledger
from tuner.run.runner import Generation, Runner, Trajectory
from tuner.run.store import MeasurementStore, Record


@dataclass(frozen=True)
class Measured:
    """One measured generation, as kept in the store.

    Attributes:
        video: (frames, 3, height, width) in [0, 1], stored with 8 bits a channel.
        latents: final latents.
        step_seconds: (steps,) wall time of every denoising step.
        seconds: wall time of the whole call.
        reduced_sites: how many (feature, block, step) sites were reduced.
        forced_error: (calls,) teacher-forced relative error, where it was measured.
        trajectory: what the denoiser saw and said, where it was recorded.
    """

    video: torch.Tensor
    latents: torch.Tensor
    step_seconds: np.ndarray
    seconds: float
    reduced_sites: int
    forced_error: np.ndarray | None
    trajectory: Trajectory | None


def _to_record(generation: Generation) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    sites = generation.summary.reduced.values() if generation.summary is not None else []
    values = {
        "step_seconds": generation.step_seconds.tolist(),
        "seconds": generation.seconds,
        "reduced_sites": int(sum(np.count_nonzero(table) for table in sites)),
        "forced_error": None if generation.forced_error is None else generation.forced_error.tolist(),
    }
    arrays = {
        "video": (generation.video * 255).round().clamp(0, 255).byte().numpy(),
        "latents": generation.latents.numpy(),
    }
    if generation.trajectory is not None:
        arrays["trajectory_latents"] = torch.stack(generation.trajectory.latents).float().cpu().numpy()
        arrays["trajectory_outputs"] = torch.stack(generation.trajectory.outputs).float().cpu().numpy()
    return values, arrays


def _from_record(record: Record) -> Measured:
    values = record.values
    forced = values["forced_error"]
    trajectory = None
    if "trajectory_latents" in record.arrays:
        latents, outputs = record.arrays["trajectory_latents"], record.arrays["trajectory_outputs"]
        trajectory = Trajectory(list(torch.from_numpy(np.array(latents))), list(torch.from_numpy(np.array(outputs))))
    return Measured(
        video=torch.from_numpy(np.array(record.arrays["video"])).float() / 255,
        latents=torch.from_numpy(np.array(record.arrays["latents"])),
        step_seconds=np.array(values["step_seconds"]),
        seconds=values["seconds"],
        reduced_sites=values["reduced_sites"],
        forced_error=None if forced is None else np.array(forced),
        trajectory=trajectory,
    )


class Meter:
    """Makes measurements through the store: known ones are read back, new ones are charged and kept."""

    def __init__(self, runner: Runner, store: MeasurementStore, ledger: Ledger) -> None:
        self.runner = runner
        self.store = store
        self.ledger = ledger
        entry = runner.entry
        self._subject = {
            "model": entry.name,
            "workload": entry.workload.as_dict(),
            "weights": weights_identity(runner.pipe, entry.weights),
            "attention_backend": attention_backend_of(runner.pipe),
            "device": str(runner.device),
        }

    def key(self, kind: str, **details: Any) -> dict[str, Any]:
        """The store's key of one measurement of this model and workload."""
        return {"kind": kind, **self._subject, **details}

    def steps(self, stage: str, count: int, prompt: str, repeat: int) -> np.ndarray:
        """Seconds of the first `count` unaccelerated steps."""
        key = self.key("steps", count=count, prompt=prompt, repeat=repeat)
        record = self.store.get(key)
        if record is None:
            record = self.store.put(key, {"step_seconds": self.runner.time_steps(count, prompt).tolist()}, None)
        measured = np.array(record.values["step_seconds"])
        self.ledger.charge(stage, float(measured.sum()))
        return measured

    def generation(
        self,
        stage: str,
        prompt: str,
        seed: int,
        schedule: Schedule | None,
        expected_ie: float = 1.0,
        repeat: int = 0,
        record_trajectory: bool = False,
        forced: Trajectory | None = None,
    ) -> Measured:
        """One whole generation.

        Args:
            stage: which line of the ledger it is charged to.
            prompt: what to show.
            seed: seed of the initial noise.
            schedule: reduction to run with; none means unaccelerated.
            expected_ie: what it is expected to cost, in inference-equivalents; refused when the budget has not that
                much left.
            repeat: tells repeated measurements of one setting apart.
            record_trajectory: keep the trajectory, so that later runs can be forced along it.
            forced: replay this trajectory and measure the denoiser's error at each of its inputs.

        Raises:
            BudgetExhaustedError: the budget does not hold it; nothing was run.
        """
        key = self.key(
            "forced" if forced is not None else "generation",
            prompt=prompt,
            seed=seed,
            schedule=None if schedule is None else schedule.content_hash(),
            repeat=repeat,
            recorded=record_trajectory,
        )
        record = self.store.get(key)
        if record is None:
            self.ledger.check(expected_ie, stage)
            generation = self.runner.generate(prompt, seed, schedule, record=record_trajectory, forced=forced)
            values, arrays = _to_record(generation)
            record = self.store.put(key, values, arrays)
        measured = _from_record(record)
        self.ledger.charge(stage, measured.seconds)
        return measured
