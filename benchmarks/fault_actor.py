"""A worker with faults planted: it hangs, produces NaN or runs out of memory, each once, as files ask for it."""

from __future__ import annotations

import os
import resource
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from tuner.stages.certify import FIRST_SEED
from tuner.work.actor import Actor
from tuner.work.outcome import Answer

HANG, NAN, MEMORY = "hang", "nan", "memory"
FOLDER = "ASYMRNR_FAULTS_FOLDER"


class FaultyActor(Actor):
    """Takes a file's name as what is to happen, and the first worker that renames it lets it happen."""

    def open(self) -> Answer:
        found = super().open()
        assert self._worker is not None
        runner = self._worker.bench.runner
        self.spoil = False

        def poisoned(module: Any, _: Any, output: Any) -> Any:  # twins copy hooks; the plain side stays sound
            return (output[0] * float("nan"), *output[1:]) if self.spoil and module is not runner.denoiser else None

        runner.denoiser.register_forward_hook(poisoned)
        return found

    def do(self, key: dict[str, Any], work: dict[str, Any]) -> Answer:
        tuning = key["kind"] == "pair" and key["seed"] < FIRST_SEED
        if key["kind"] == "noise-floor" and _taken(HANG):
            os.kill(os.getpid(), signal.SIGSTOP)
        if key["kind"] == "pair" and not tuning and _taken(MEMORY):
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**20, resource.RLIM_INFINITY))
            held = []
            while True:  # until there is none left, which is an error of torch's
                try:
                    held.append(torch.empty(2**26))
                except (RuntimeError, MemoryError):
                    break
        self.spoil = tuning and _taken(NAN)
        try:
            return super().do(key, work)
        finally:
            self.spoil = False


def _taken(name: str) -> bool:
    path = Path(os.environ[FOLDER]) / name
    with suppress(OSError):
        path.rename(path.with_suffix(".happened"))
        return True
    return False
