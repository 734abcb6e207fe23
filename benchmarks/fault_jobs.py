"""The job that faults happen to: what runs it, what it had measured at any moment, whether it ended as it should."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from asymrnr.artifact_io import load_artifact
from tuner.context import NoProgress, TuneOptions
from tuner.errors import TunerError
from tuner.findings import Findings
from tuner.models import LoadOptions, WorkloadOptions, load_pipeline
from tuner.opening import open_records
from tuner.package import file_name
from tuner.pipeline import go, tune
from tuner.run.store import COST, LOG_NAME, MeasurementStore, key_hash

MODEL, BLOCKS, STEPS, FRAMES, TARGET, BUDGET, TRIALS = "tiny-cogvideox", 2, 4, 4, 1.02, 1_000.0, 6
ENDED = 99  # of a driver, when something unforeseen ended it


def small_weights(folder: Path) -> Path:
    """The embedded model with its first blocks alone, which generates noise, but in a second."""
    pipe = load_pipeline(MODEL)
    pipe.transformer.transformer_blocks = pipe.transformer.transformer_blocks[:BLOCKS]
    pipe.transformer.register_to_config(num_layers=BLOCKS)
    pipe.save_pretrained(folder)
    return folder


def options_for(folder: Path, weights: Path, seed: int, **changes: Any) -> TuneOptions:
    """A short run of that model."""
    made = TuneOptions(
        MODEL,
        TARGET,
        folder,
        budget=BUDGET,
        seed=seed,
        trials=TRIALS,
        resume=True,
        load=LoadOptions(weights),
        workload=WorkloadOptions(steps=STEPS, frames=FRAMES),
    )
    return replace(made, **changes)


class Driver:
    """A run in a process of its own, forked from this one, which has imported everything already."""

    def __init__(self, options: TuneOptions, prepare: Callable[[], None] = lambda: None) -> None:
        """
        Args:
            options: of the run.
            prepare: done in the process before the run begins.
        """
        self.options = options
        sys.stdout.flush()
        self.pid = os.fork()
        self.code: int | None = None
        if self.pid == 0:
            os.setpgid(0, 0)
            os._exit(_drive(options, prepare))

    def poll(self) -> int | None:
        """Exit code of the process, negative where a signal ended it; None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def wait(self, seconds: float) -> int | None:
        """Wait for its end, at most so long."""
        until = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        return self.code

    def kill(self) -> None:
        """SIGKILL."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.wait(30)


def _drive(options: TuneOptions, prepare: Callable[[], None]) -> int:
    options.output.mkdir(parents=True, exist_ok=True)
    log = os.open(options.output.with_suffix(".out"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        prepare()
        tune(options, Printed())
    except TunerError as error:
        print(f"exit code {error.exit_code}: {error}", flush=True)
        return error.exit_code
    except OSError as error:
        print(f"{error}", flush=True)
        return 2
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        return ENDED
    return 0


class Printed(NoProgress):
    """Stages, one a line."""

    def stage(self, name: str, detail: str = "") -> None:
        print(f"{time.strftime('%X')} {name} {detail}", flush=True)


@dataclass
class Witness:
    """Every measurement that was ever finished, as the logs had it; what is in a log was on disk.

    Attributes:
        seen: hash of a key to the costs of all measurements that had it; a cost names one making.
        forgotten: hashes of what was too disturbed, and may be made again.
        struck: hashes of what was finished when a process was struck.
        again: hashes of what was made again though it was finished.
    """

    seen: dict[str, set[float]] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    struck: set[str] | None = None
    again: list[str] = field(default_factory=list)

    def look(self, *folders: Path, strike: bool = False) -> None:
        """Note what the logs of some runs, and of their workers, hold now.

        Args:
            folders: of the runs.
            strike: a process was just struck. What is not finished now is in flight: a worker whose run is gone may
                still finish it while the next run has it made.
        """
        for folder in folders:
            for path in [folder / LOG_NAME, *folder.glob(f"workers/*/{LOG_NAME}")]:
                for line in _lines(path):
                    if "forgotten" in line:
                        self.forgotten.update(line["forgotten"])
                    elif COST in line.get("values", {}):
                        self._note(key_hash(line["key"]), line["values"][COST])
        if strike:
            self.struck = set(self.seen)

    def _note(self, digest: str, cost: float) -> None:
        costs = self.seen.setdefault(digest, set())
        if costs and cost not in costs and (self.struck is None or digest in self.struck):
            self.again.append(digest)
        costs.add(cost)

    def lost(self, *folders: Path) -> int:
        """Of all that was finished, how much none of the runs has."""
        final: set[str] = set()
        for folder in folders:
            final |= {key_hash(line["key"]) for line in _lines(folder / LOG_NAME) if "key" in line}
        return len(set(self.seen) - final)

    @property
    def twice(self) -> int:
        """Measurements finished more than once."""
        return sum(digest not in self.forgotten for digest in self.again)


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    with suppress(OSError):
        for text in path.read_bytes().splitlines():
            with suppress(ValueError):
                found.append(json.loads(text))
    return found


def other_schedule(folder: Path) -> int:
    """1 where an undisturbed run over the same measurements ends with another schedule than the run did, else 0."""
    path, findings = folder / file_name(TARGET), Findings()
    saved = load_artifact(path) if path.is_file() else None
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / folder.name
        shutil.copytree(folder, copy)
        log = (copy / LOG_NAME).read_bytes().splitlines(keepends=True)  # a run that was too noisy forgets in the end
        (copy / LOG_NAME).write_bytes(b"".join(line for line in log if b'"forgotten"' not in line))
        with suppress(TunerError):
            go(open_records(copy), findings)
    again = findings.artifact
    if saved is None or again is None:
        return 0 if saved is again else 1
    same = again.schedule == saved.schedule and again.evidence == saved.evidence
    return 0 if same and again.certified == saved.certified else 1


def left_behind(folder: Path) -> list[str]:
    """What a run should not leave: locks that are held, temporary files, logs of workers, Ray's folders."""
    found = [str(path) for path in folder.rglob("*.part")]
    found += [str(path) for path in (folder / "workers", folder / "profile-unfinished") if path.exists()]
    try:
        MeasurementStore(folder).close()
    except TunerError as error:
        found.append(str(error))
    return found
