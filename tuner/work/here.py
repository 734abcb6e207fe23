"""Measurements made in this process, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from tuner.run.job import Job, Made, Told, silent
from tuner.work.sharing import ElsewhereError
from tuner.work.worker import Worker

AGAIN = 1.0  # seconds until what somebody else makes is asked for again


class Here:
    """The source of a run on its own.

    Attributes:
        worker: makes them; its log is the run's.
        width: one at a time.
    """

    width = 1

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def make(self, jobs: Sequence[Job], keep: Callable[[Job, Made | Exception], None], told: Told = silent) -> None:
        """Make them in their order; what one ends in ends the others, too."""
        for job in jobs:
            keep(job, self._made(job, told))

    def close(self) -> None:
        """Nothing is held."""

    def _made(self, job: Job, told: Told) -> Made:
        while True:
            try:
                return self.worker.do(job, told)
            except ElsewhereError:
                told(0, 1, "another run is making this measurement; waiting for it")
                time.sleep(AGAIN)
