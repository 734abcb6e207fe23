"""Faults of the database and of connections to it, while two workers write as fast as they can."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fault_bed import Bed, Row
from fault_jobs import Witness
from fault_scenarios import PATIENCE

from tests.work.postgres import Proxy
from tuner.run.job import Job, Made
from tuner.run.store import MeasurementStore
from tuner.work.database import Database
from tuner.work.here import Here
from tuner.work.shared import Shared
from tuner.work.signs import Signs
from tuner.work.worker import Worker


def writes(bed: Bed, fault: str, count: int, strike: Callable[[], None], url: str) -> Row:
    """Faults while two workers write measurements as fast as they can; what they measure costs nothing.

    Args:
        bed: where.
        fault: its name.
        count: how often.
        strike: does it once.
        url: of the database, as the workers see it.
    """
    kind, over = {"cpu": f"{fault} {bed.random.random()}"}, threading.Event()
    folders = [bed.folder / f"writes-{fault.split()[0]}-{number}" for number in range(2)]
    threads = [threading.Thread(target=_write, args=(url, kind, folder, over)) for folder in folders]
    for thread in threads:
        thread.start()
    for _ in range(count):
        time.sleep(bed.random.uniform(0.3, 1.5))
        strike()
    time.sleep(2.0)
    over.set()
    for thread in threads:
        thread.join(PATIENCE)
    witness = Witness()
    witness.look(*folders)
    missing = 0
    for folder in folders:  # as --resume does
        with MeasurementStore(folder) as log:
            shared = Shared(Database(bed.server.url, kind, "after"), 5.0, Signs())
            shared.deliver(log)
            missing += shared.deliver(log)
            database = shared.database
            for digest, line in log.items():
                found = database.find(Job(line["key"]))
                missing += found is None or not np.array_equal(found[1]["a"], log.get(line["key"]).arrays["a"])  # type: ignore[union-attr]
                assert digest
            shared.close()
    left = [str(path) for folder in folders for path in folder.rglob("*.part")]
    return Row(fault, count, len(witness.seen), missing, witness.twice, None, left, "two workers that only write")


def _write(url: str, kind: dict[str, Any], folder: Path, over: threading.Event) -> None:
    with MeasurementStore(folder) as log:
        shared = Shared.open(url, kind, 5.0, Signs())

        def make(job: Job, *_: Any) -> Made:
            time.sleep(0.01)
            return {"of": folder.name}, {"a": np.full(20_000, float(job.key["name"]))}

        bench: Any = type("Nothing", (), {"forget_unfinished": lambda self: None})()
        source = Here(Worker(bench, log, shared, Signs(), make))
        first = int(folder.name[-1]) * 1_000_000  # while the database is away neither knows what the other does
        for name in itertools.count(first):
            if over.is_set():
                break
            source.make([Job({"kind": "pair", "name": name})], lambda *_: None)
        shared.close()


def restarts(bed: Bed, count: int) -> Row:
    """The database is restarted, at once or as after a crash, in the middle of writes."""
    return writes(
        bed,
        "restarts of the database in the middle of writes",
        count,
        lambda: bed.server.restart(bed.random.choice([signal.SIGINT, signal.SIGQUIT])),
        bed.server.url,
    )


def cuts(bed: Bed, count: int) -> Row:
    """Connections are cut after a random number of bytes."""
    proxy = Proxy(bed.server.port)

    def strike() -> None:
        before = proxy.cuts
        proxy.cut(bed.random.randint(0, 400_000))
        until = time.monotonic() + 15
        while proxy.cuts == before and time.monotonic() < until:
            time.sleep(0.05)

    row = writes(bed, "connections cut half way", count, strike, bed.server.url_at(proxy.port))
    proxy.close()
    row.faults = proxy.cuts
    return row
