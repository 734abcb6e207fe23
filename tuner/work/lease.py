"""A lease with a heartbeat: renewed while its holder gives signs of life, and never otherwise."""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from tuner.run.job import Job
from tuner.work.database import AwayError, Database
from tuner.work.signs import Signs

BEATS = 4  # in the time that a lease runs


class Lease:
    """Held while a measurement is made, in a thread of its own; what hangs does not renew it."""

    def __init__(self, database: Database, job: Job, seconds: float, signs: Signs) -> None:
        """
        Args:
            database: has the lease.
            job: what it is for; claimed already.
            seconds: how long it runs.
            signs: of the worker that makes it.
        """
        self._database, self._job, self._seconds, self._signs = database, job, seconds, signs
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        with suppress(AwayError):
            self._database.release(self._job)

    def _beat(self) -> None:
        pause = self._seconds / BEATS
        while not self._over.wait(pause):
            left = self._seconds - self._signs.silent_for
            if left > 0:
                with suppress(AwayError):
                    self._database.claim(self._job, left)
