"""Faults, each happening to real runs, workers and servers, and what came of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import fault_actor
from fault_bed import Bed, Row
from fault_jobs import FRAMES, Driver, Witness, other_schedule

from tuner.context import TuneOptions
from tuner.run.store import COST, MeasurementStore
from tuner.work import pool, ray_crew
from tuner.work.database import Database

PATIENCE = 900.0  # seconds for a run to end
ACTOR = b"ray::Answering"  # as Ray names the process of a worker


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
                witness.look(options.output, strike=True)
                driver = bed.driver(options)
            else:
                witness.look(options.output, strike=True)
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
    # With libfaketime 0.9.10 Python's sleep fails (EINVAL): it sleeps until a moment of the clock that is left alone.
    code = "import sys, threading, time; time.sleep = lambda seconds: threading.Event().wait(seconds); "
    code += "from tuner.start import main; sys.argv[0] = 'asymrnr-tune'; main()"
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
    environment = {**os.environ, **clock, **bed.marks()}
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
