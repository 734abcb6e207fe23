"""Where faults happen: runs in processes of their own, and the row that says what came of them."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fault_jobs import Driver, left_behind, options_for

from tests.work.postgres import Postgres
from tuner.context import TuneOptions

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[1]
MARK = "ASYMRNR_FAULTS_FOLDER"
SETTLE = 40.0  # seconds in which what a dead driver started must be gone


@dataclass
class Row:
    """One line of the table; None where the question does not arise.

    Attributes:
        fault: what happened.
        faults: how often.
        measurements: finished ones that were watched.
        lost, twice, other: finished measurements lost; made twice, but for those in flight; runs with another schedule.
        left: what was left behind.
        note: how it went on.
    """

    fault: str
    faults: int
    measurements: int
    lost: int
    twice: int
    other: int | None
    left: list[str]
    note: str = ""


class Bed:
    """Where scenarios happen: a folder, weights, a server, and a generator of random numbers."""

    def __init__(self, folder: Path, weights: Path, server: Postgres, seed: int) -> None:
        self.folder, self.weights, self.server = folder, weights, server
        self.random = random.Random(seed)
        self._runs = itertools.count()

    def options(self, **changes: Any) -> TuneOptions:
        """Of a run of its own."""
        number = next(self._runs)
        return options_for(self.folder / f"run-{number}", self.weights, changes.pop("seed", number), **changes)

    def marks(self) -> dict[str, str]:
        """Environment variables of what runs here."""
        return {MARK: str(self.folder), "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"}

    def driver(self, options: TuneOptions, prepare: Callable[[], None] = lambda: None) -> Driver:
        """A run in a process; all that it starts is marked with the folder of these scenarios."""

        def marked() -> None:
            os.environ.update(self.marks())
            prepare()

        return Driver(options, marked)

    def processes(self, begin: bytes = b"") -> list[int]:
        """What runs started, by how their command lines begin."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                mark = f"{MARK}={self.folder}".encode()
                if (path / "cmdline").read_bytes().startswith(begin) and mark in (path / "environ").read_bytes().split(
                    b"\0"
                ):
                    found.append(int(path.name))
        return found

    def left(self, *runs: TuneOptions) -> list[str]:
        """What is left of them."""
        until = time.monotonic() + SETTLE
        while self.processes() and time.monotonic() < until:
            time.sleep(0.5)
        found = [f"process {pid}" for pid in self.processes()]
        for run in runs:
            found += left_behind(run.output)
        return found


def remove(folder: Path) -> None:
    """Everything that scenarios made."""
    shutil.rmtree(folder, ignore_errors=True)
