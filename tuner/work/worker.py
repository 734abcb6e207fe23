"""One worker: makes a measurement, writes it down, and only then says what came out."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from tuner.errors import NonFiniteError
from tuner.run.job import Job, Made, Told, silent
from tuner.run.store import COST, FAILED, MeasurementStore
from tuner.work.bench import Bench
from tuner.work.perform import perform
from tuner.work.sharing import Sharing
from tuner.work.signs import Signs


class Worker:
    """A bench with a log of its own.

    Attributes:
        bench: the model.
        log: every measurement is on disk here before anybody else hears of it.
        sharing: what others measured, and hear of; None for nobody.
        signs: of life.
    """

    def __init__(
        self,
        bench: Bench,
        log: MeasurementStore,
        sharing: Sharing | None = None,
        signs: Signs | None = None,
        make: Callable[[Job, Bench, Told], Made] = perform,
    ) -> None:
        """
        Args:
            bench, log, sharing, signs: see above.
            make: makes a measurement on the bench.
        """
        self.bench, self.log, self.sharing = bench, log, sharing
        self.signs = signs or Signs()
        self._perform = make

    def do(self, job: Job, told: Told = silent) -> Made:
        """A measurement: read back where the log or the others have it, else made and written down.

        Raises:
            ElsewhereError: somebody else is making it.
            TunerError: what making it ended in, but for NaN, which is a result.
        """
        known = self.log.get(job.key)
        if known is not None:
            return known.values, known.arrays
        if self.sharing is None:
            return self._make(job, told)
        found = self.sharing.find(job)
        if found is not None:
            return self._write(job, found)
        with self.sharing.claimed(job):
            found = self.sharing.find(job)  # it may have come before the claim
            if found is not None:
                return self._write(job, found)
            measured = self._make(job, told)
            self.sharing.deliver(self.log)
        return measured

    def _make(self, job: Job, told: Told) -> Made:
        began = perf_counter()
        self.signs.begin()
        values: dict[str, Any]
        arrays: dict[str, np.ndarray]
        try:
            values, arrays = self._perform(job, self.bench, told)
        except NonFiniteError as error:
            values, arrays = {FAILED: str(error)}, {}
        finally:
            self.signs.end()
        measured = self._write(job, ({**values, COST: perf_counter() - began}, arrays))
        self.bench.forget_unfinished()
        return measured

    def _write(self, job: Job, measured: Made) -> Made:
        record = self.log.put(job.key, *measured)
        return record.values, record.arrays
