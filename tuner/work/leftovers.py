"""Logs of workers whose run was killed: what they had measured is taken over, and they are removed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tuner.errors import UsageError
from tuner.run.identity import ENVIRONMENT_KEY, differences
from tuner.run.store import COST, LOG_NAME, MeasurementStore, key_hash

PATIENCE, PAUSE = 10.0, 0.2  # seconds
WORKERS = "workers"  # folder of a run that holds the logs of workers on this machine


def _logs(folder: Path) -> Iterator[MeasurementStore]:
    """Logs that no living worker has."""
    for path in sorted(folder.glob(f"*/{LOG_NAME}")):
        with suppress(UsageError), MeasurementStore(path.parent) as log:
            yield log


def absorb(folder: Path, store: MeasurementStore, environment: dict[str, Any]) -> int:
    """Take over what was measured on such a machine as this.

    Args:
        folder: holds the logs.
        store: of the run.
        environment: of those that measure now.

    Returns:
        How many measurements were not known.
    """
    taken = 0
    for log in _logs(folder):
        where = log.get(ENVIRONMENT_KEY)
        if where is None or differences(where.values, environment):
            continue
        for record in log:
            unknown = store.get(record.key) is None and record.key_hash not in store.forgotten
            if COST in record.values and unknown:
                store.put(record.key, record.values, record.arrays)
                taken += 1
    return taken


def forget(folder: Path, store: MeasurementStore) -> None:
    """Remove logs of which everything is in the run's own, as soon as their workers are gone."""
    if store.read_only:
        return
    until = time.monotonic() + PATIENCE
    while folder.is_dir():
        for log in _logs(folder):
            measured = [line["key"] for line in log.lines() if COST in line["values"]]
            if all(store.get(key) is not None or key_hash(key) in store.forgotten for key in measured):
                shutil.rmtree(log.folder, ignore_errors=True)
        with suppress(OSError):
            folder.rmdir()
        if time.monotonic() > until:
            break
        time.sleep(PAUSE)
