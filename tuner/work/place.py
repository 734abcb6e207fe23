"""Where a run's measurements are made, and what is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tuner.run.identity import subject
from tuner.run.job import Source
from tuner.run.runner import Runner
from tuner.run.store import MeasurementStore
from tuner.work.bench import Bench
from tuner.work.here import Here
from tuner.work.sharing import Sharing
from tuner.work.signs import Signs
from tuner.work.worker import Worker

UNFINISHED = "profile-unfinished"


@dataclass(frozen=True)
class Place:
    """A source of measurements.

    Attributes:
        source: makes them.
        environment: of the machines that make them, see `tuner.run.identity.environment`; one kind only.
        subject: what is measured, see `tuner.run.identity.subject`.
        gpu_bytes: memory of a GPU; None on CPUs.
        sharing: what the run itself shares with others; None for nothing.
    """

    source: Source
    environment: dict[str, Any]
    subject: dict[str, Any]
    gpu_bytes: int | None
    sharing: Sharing | None = None


def gpu_bytes(runner: Runner) -> int | None:
    """Memory of the GPU that a model runs on; None on CPUs."""
    if runner.device.type != "cuda":
        return None
    total: int = torch.cuda.get_device_properties(runner.device).total_memory
    return total


def here(
    runner: Runner,
    log: MeasurementStore,
    environment: dict[str, Any],
    folder: Path | None = None,
    share: Callable[[Signs], Sharing] | None = None,
) -> Place:
    """This process.

    Args:
        runner: the model, loaded.
        log: where measurements are written down.
        environment: of this machine.
        folder: keeps an interrupted profile; None for nowhere.
        share: opens what is shared with others; None for nothing.
    """
    signs, sharing = Signs(), None
    if share is not None:
        signs.watch(runner)
        sharing = share(signs)
    worker = Worker(Bench(runner, None if folder is None else folder / UNFINISHED), log, sharing, signs)
    return Place(Here(worker), environment, subject(runner), gpu_bytes(runner), sharing)
