"""A worker in a process of its own, as Ray runs it: holds the loaded model, and does one job after the other."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

from tuner.context import TuneOptions
from tuner.errors import UsageError
from tuner.models import load_pipeline
from tuner.run.identity import ENVIRONMENT_KEY, environment, subject
from tuner.run.job import Job
from tuner.run.runner import Runner
from tuner.run.store import MeasurementStore, key_hash
from tuner.work.bench import Bench
from tuner.work.outcome import ELSEWHERE, Answer, failed, made
from tuner.work.place import UNFINISHED, gpu_bytes
from tuner.work.sharing import ElsewhereError
from tuner.work.signs import Signs
from tuner.work.worker import Worker

PATIENCE = 60.0  # seconds until a dead predecessor's log is free


class Actor:
    """One worker. Nothing is loaded before `open`."""

    def __init__(self, number: int, folder: str, options: dict[str, Any]) -> None:
        """
        Args:
            number: tells the workers of a run apart.
            folder: holds the workers' logs, on the worker's machine; ~ is the home folder there.
            options: of the run, see `TuneOptions.to_dict`.
        """
        self.number = number
        self.folder = Path(folder).expanduser()
        self.options = TuneOptions.from_dict(options)
        self.signs = Signs()
        self._worker: Worker | None = None

    def open(self) -> Answer:
        """Load the model; gives what is here, or the error that loading ended in."""
        try:
            at, entry = environment(), self.options.model_entry()
            runner = Runner(load_pipeline(entry.name, self.options.device, self.options.load), entry)
            self.signs.watch(runner)
            sharing = None
            if self.options.store is not None:
                from tuner.work.shared import Shared  # comes with an extra

                sharing = Shared.open(self.options.store, at, self.options.lease, self.signs)
            log = _log(self.folder / f"{key_hash(at)[:8]}-{self.number}")
            if log.get(ENVIRONMENT_KEY) is None:
                log.put(ENVIRONMENT_KEY, at)
            self._worker = Worker(Bench(runner, log.folder / UNFINISHED), log, sharing, self.signs)
            if sharing is not None:
                sharing.deliver(log)  # what one before could not
            found = {"environment": at, "subject": subject(runner), "gpu_bytes": gpu_bytes(runner)}
            return made(({**found, "host": platform.node(), "pid": os.getpid()}, {}))
        except Exception as error:
            return failed(error)

    def do(self, key: dict[str, Any], work: dict[str, Any]) -> Answer:
        """Make one measurement."""
        assert self._worker is not None
        try:
            return made(self._worker.do(Job(key, work)))
        except ElsewhereError:
            return (ELSEWHERE,)
        except Exception as error:
            return failed(error)

    def silent_for(self) -> float:
        """Seconds since the last sign of life."""
        return self.signs.silent_for


def _log(folder: Path) -> MeasurementStore:
    began = time.monotonic()
    while True:
        try:
            return MeasurementStore(folder)
        except UsageError:
            if time.monotonic() - began > PATIENCE:
                raise
            time.sleep(0.5)
