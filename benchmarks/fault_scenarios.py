"""Faults, each happening to real runs, workers and servers, and what came of them."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fault_actor
from fault_jobs import FRAMES, Driver, Witness, left_behind, options_for, other_schedule

from tests.work.postgres import Postgres
from tuner.context import TuneOptions
from tuner.run.store import COST, MeasurementStore
from tuner.work import pool, ray_crew
from tuner.work.database import Database

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[1]
MARK = "ASYMRNR_FAULTS_FOLDER"
PATIENCE = 900.0  # seconds for a run to end
SETTLE = 40.0  # seconds in which what a dead driver started must be gone
ACTOR = b"ray::Answering"  # as Ray names the process of a worker


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

    def driver(self, options: TuneOptions, prepare: Callable[[], None] = lambda: None) -> Driver:
        """A run in a process; all that it starts is marked with the folder of these scenarios."""

        def marked() -> None:
            os.environ[MARK] = str(self.folder)
            os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{HERE}"
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


def kills(bed: Bed, who: str, count: int, minutes: float, say: Callable[[str], None]) -> Row:
    """SIGKILL at random moments, of the run's process, of one of its workers, or of both.

    Args:
        bed: where.
        who: "driver", "worker" or "both".
        count: how many.
        minutes: after which no more are begun.
        say: progress.
    """
    workers = {} if who == "driver" else {"workers": "2"}
    runs, witnesses, done, other = list[TuneOptions](), list[Witness](), 0, 0
    until = time.monotonic() + 60 * minutes
    while done < count and time.monotonic() < until:
        options, witness = bed.options(**workers), Witness()  # runs without a database share nothing
        runs.append(options)
        witnesses.append(witness)
        driver = bed.driver(options)
        while driver.poll() is None:
            if done >= count or time.monotonic() > until:
                driver.wait(PATIENCE)
                break
            if who == "driver":
                driver.wait(bed.random.uniform(0.5, 15.0))
            elif not _wait_for_work(driver, options.output, len(witness.seen)):
                break
            else:  # starting takes many times as long as a measurement
                driver.wait(bed.random.uniform(0.0, 10.0))
            if driver.poll() is not None:
                break
            if who != "driver":
                for pid in bed.random.sample(actors, 1) if (actors := bed.processes(ACTOR)) else []:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            done += 1
            if who != "worker":
                driver.kill()
                witness.look(options.output)
                driver = bed.driver(options)
            witness.look(options.output)
            say(f"{done} of {count} SIGKILLs of {who}")
        witness.look(options.output)
        say(f"run ended with {driver.code}: {_last_line(options.output)}")
        other += other_schedule(options.output)
    name = {"driver": "the run's process", "worker": "a worker", "both": "the run's process and a worker"}[who]
    measurements = sum(len(witness.seen) for witness in witnesses)
    lost = sum(witness.lost(options.output) for witness, options in zip(witnesses, runs, strict=True))
    twice = sum(witness.twice for witness in witnesses)
    note = f"runs that went to their end: {len(runs)}; {FRAMES} frames"
    return Row(f"SIGKILL of {name}", done, measurements, lost, twice, other, bed.left(*runs), note)


def _last_line(folder: Path) -> str:
    said = folder.with_suffix(".out").read_text(errors="replace").strip().splitlines()
    return said[-1][:200] if said else ""


def _wait_for_work(driver: Driver, folder: Path, before: int) -> bool:
    """Until something more is measured than there was; False where the run ends before."""
    while driver.poll() is None:
        seen = Witness()
        seen.look(folder)
        if len(seen.seen) > before:
            return True
        time.sleep(0.3)
    return False


def workers_that_fail(bed: Bed) -> Row:
    """One hangs, one produces NaN, one runs out of memory, in one run with two workers."""
    options = bed.options(workers="2", lease=20.0)
    for name in (fault_actor.HANG, fault_actor.NAN, fault_actor.MEMORY):
        (bed.folder / name).touch()

    def prepare() -> None:
        ray_crew.Actor = fault_actor.FaultyActor  # type: ignore[misc]
        pool.TICK = 0.5

    driver = bed.driver(options, prepare)
    code = driver.wait(PATIENCE)
    happened = sorted(path.stem for path in bed.folder.glob("*.happened"))
    witness = Witness()
    witness.look(options.output)
    with MeasurementStore(options.output, read_only=True) as store:
        nan = sum("failed" in line["values"] for line in store.lines())
    lost, other = witness.lost(options.output), other_schedule(options.output)
    note = f"happened: {', '.join(happened)}; {nan} recorded as NaN; exit code {code}; {FRAMES} frames"
    fault = "a worker hangs, one gives NaN, one runs out of memory"
    return Row(fault, len(happened), len(witness.seen), lost, witness.twice, other, bed.left(options), note)


def full_disk(bed: Bed) -> Row:
    """The disk is full at a random moment; then there is room again."""
    disk = bed.folder / "disk"
    disk.mkdir()
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], check=False).returncode == 0
    )
    if not mounted:
        return Row("a full disk", 0, 0, 0, 0, None, [], "not run: no file system could be mounted here")
    try:
        options = bed.options()
        options = type(options)(**{**options.__dict__, "output": disk / "run"})
        witness, codes = Witness(), []
        for _ in range(3):
            driver = bed.driver(options)
            driver.wait(bed.random.uniform(5.0, 20.0))
            hog = disk / "hog"
            with suppress(OSError), hog.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(2**16))
            driver.wait(PATIENCE)
            codes.append(driver.code)
            witness.look(options.output)
            hog.unlink()
        driver = bed.driver(options)
        codes.append(driver.wait(PATIENCE))
        witness.look(options.output)
        found = options.output
        lost, other, left = witness.lost(found), other_schedule(found), bed.left(options)
        note = f"exit codes {', '.join(map(str, codes))}"
        return Row("a full disk, then room again", 3, len(witness.seen), lost, witness.twice, other, left, note)
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def away_for_a_minute(bed: Bed) -> Row:
    """The database goes away in the middle of a run and comes back after a minute."""
    options = bed.options(store=bed.server.url)
    driver = bed.driver(options)
    driver.wait(bed.random.uniform(15.0, 40.0))
    bed.server.shut(signal.SIGQUIT)
    time.sleep(60.0)
    bed.server.start()
    codes = [driver.wait(PATIENCE)]
    witness = Witness()
    witness.look(options.output)
    again = bed.driver(options)  # with --resume, which delivers what may be missing
    codes.append(again.wait(PATIENCE))
    witness.look(options.output)
    missing = _missing(bed.server.url, options.output)
    lost, other = witness.lost(options.output) + missing, other_schedule(options.output)
    left = [*bed.left(options), *_leases(bed.server.url, options.output)]
    note = f"exit codes {', '.join(map(str, codes))}; the database lacks {missing}"
    return Row("the database away for a minute", 1, len(witness.seen), lost, witness.twice, other, left, note)


def two_drivers_one_clock_off(bed: Bed) -> Row:
    """Two runs that ask for the same measurements of one database, the second one's clock an hour ahead."""
    first = bed.options(store=bed.server.url, seed=77)
    second = bed.options(store=bed.server.url, seed=77)
    plain = bed.driver(first)
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    clock = {"LD_PRELOAD": str(library), "FAKETIME": "+3600s", "DONT_FAKE_MONOTONIC": "1"} if library else {}
    code = "import sys; from tuner.start import main; sys.argv[0] = 'asymrnr-tune'; main()"
    asked = {
        "model": second.model,
        "target-speedup": second.target_speedup,
        "output": second.output,
        "budget": second.budget,
        "trials": second.trials,
        "seed": second.seed,
        "steps": second.workload.steps,
        "frames": second.workload.frames,
        "weights": bed.weights,
        "store": bed.server.url,
    }
    command = [
        sys.executable,
        "-c",
        code,
        *(str(part) for name, value in asked.items() for part in (f"--{name}", value)),
    ]
    environment = {**os.environ, **clock, MARK: str(bed.folder), "PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"}
    with second.output.with_suffix(".out").open("wb") as out:
        shifted = subprocess.run(command, env=environment, stdout=out, stderr=out, timeout=PATIENCE, check=False)
    codes = [plain.wait(PATIENCE), shifted.returncode]
    witness = Witness()
    witness.look(first.output, second.output)
    lost = witness.lost(first.output, second.output) + _missing(bed.server.url, first.output)
    other = other_schedule(first.output) + other_schedule(second.output)
    left = [*bed.left(first, second), *_leases(bed.server.url, first.output)]
    note = f"exit codes {codes[0]}, {codes[1]}" + ("" if library else "; clocks were right: there is no libfaketime")
    fault = "two runs on one database, one's clock an hour ahead"
    return Row(fault, 1, len(witness.seen), lost, witness.twice, other, left, note)


def _database(url: str, folder: Path) -> Database:
    from tuner.run.identity import ENVIRONMENT_KEY

    with MeasurementStore(folder, read_only=True) as store:
        record = store.get(ENVIRONMENT_KEY)
    assert record is not None
    return Database(url, record.values, "after")


def _missing(url: str, folder: Path) -> int:
    database = _database(url, folder)
    with MeasurementStore(folder, read_only=True) as store:
        hashes = [digest for digest, line in store.items() if COST in line["values"]]
    found = len(database.missing(hashes))
    database.close()
    return found


def _leases(url: str, folder: Path) -> Sequence[str]:
    from sqlalchemy import func, select

    from tuner.work.tables import LEASES

    database = _database(url, folder)
    with database._begin() as connection:
        count = connection.execute(
            select(func.count()).select_from(LEASES).where(LEASES.c.environment == database.environment)
        ).scalar_one()
    database.close()
    return [f"{count} leases"] if count else []


def remove(folder: Path) -> None:
    """Everything that scenarios made."""
    shutil.rmtree(folder, ignore_errors=True)
