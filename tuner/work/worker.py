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


class Worker:
    """A bench with a log of its own.

    Attributes:
        bench: the model.
        log: every measurement is on disk here before anybody else hears of it.
    """

    def __init__(self, bench: Bench, log: MeasurementStore, make: Callable[[Job, Bench, Told], Made] = perform) -> None:
        """
        Args:
            bench, log: see above.
            make: makes a measurement on the bench.
        """
        self.bench = bench
        self.log = log
        self._perform = make

    def do(self, job: Job, told: Told = silent) -> Made:
        """A measurement: read back where the log has it, else made and written down.

        Raises:
            TunerError: what making it ended in, but for NaN, which is a result.
        """
        known = self.log.get(job.key)
        if known is not None:
            return known.values, known.arrays
        began = perf_counter()
        values: dict[str, Any]
        arrays: dict[str, np.ndarray]
        try:
            values, arrays = self._perform(job, self.bench, told)
        except NonFiniteError as error:
            values, arrays = {FAILED: str(error)}, {}
        record = self.log.put(job.key, {**values, COST: perf_counter() - began}, arrays)
        self.bench.forget_unfinished()
        return record.values, record.arrays
