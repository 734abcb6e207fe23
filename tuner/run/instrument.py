"""Asks for measurements: each is made once, kept before anybody uses it, and charged to the budget by one rule."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from asymrnr.schedule import Schedule
from asymrnr.sections import ScheduleSection
from tuner.errors import BudgetExhaustedError, NonFiniteError, UsageError
from tuner.run.job import Job, Made, Request, Source, Told, silent
from tuner.run.ledger import Ledger
from tuner.run.pair import Pair, from_record
from tuner.run.store import COST, FAILED, MeasurementStore, Record, canonical_json


class Instrument:
    """One model under measurement; who measures, and where, it does not know.

    Attributes:
        store: what was measured.
        ledger: the budget.
        subject: what is measured, see `tuner.run.identity.subject`; part of every key.
        source: makes measurements; without it only what was measured before can be had.
    """

    def __init__(
        self, store: MeasurementStore, ledger: Ledger, subject: Mapping[str, Any], source: Source | None = None
    ) -> None:
        """
        Args:
            store, ledger, subject, source: see above.
        """
        self.store = store
        self.ledger = ledger
        self.subject = dict(subject)
        self.source = source
        self._plain_seconds: list[float] = []
        self._charged: set[str] = set()
        self._ahead: dict[str, Request] = {}  # had ahead of being asked for, and not charged yet
        self._errors: dict[str, Exception] = {}  # what making them ahead ended in

    @property
    def width(self) -> int:
        """How many measurements are made at the same time."""
        return 1 if self.source is None else self.source.width

    def key(self, kind: str, **details: Any) -> dict[str, Any]:
        """The store's key of one measurement of this model and workload."""
        return {"kind": kind, **self.subject, **details}

    def job(self, kind: str, work: Mapping[str, Any] | None = None, **details: Any) -> Job:
        """One measurement of this model and workload.

        Args:
            kind: one of `tuner.work.perform.WORK`.
            work: what making it needs beyond its key.
            details: of its key.
        """
        return Job(self.key(kind, **details), json.loads(canonical_json(work or {})))

    def measure(self, stage: str, job: Job, expected_ie: float = 0.0, told: Told = silent) -> Record:
        """A measurement: read back where it is known, else made, recorded, and charged with the wall time it took.

        Args:
            stage: line of the ledger.
            job: what is wanted.
            expected_ie: what it is expected to cost, in unaccelerated generations.
            told: progress.

        Raises:
            BudgetExhaustedError: the budget does not hold it; nothing was done.
            NonFiniteError: the model produced NaN, now or when it was first measured.
            UsageError: it was never made, and this instrument only reads.
        """
        record = self.store.get(job.key)
        if record is None:
            if job.key_hash not in self._errors:
                self.ledger.check(expected_ie + self._owed_ie(), stage)
                self._make([job], told)
            if job.key_hash in self._errors:
                raise self._errors.pop(job.key_hash)
            record = self.store.get(job.key)
            assert record is not None
        self._charge(stage, record)
        if FAILED in record.values:
            raise NonFiniteError(record.values[FAILED])
        return record

    def ahead(self, requests: Sequence[Request], told: Told = silent) -> None:
        """Have measurements made side by side that are going to be asked for, where more than one is made at a time.

        Nothing else changes by it: they are charged when they are asked for, or by `settle`, and so is raised what
        making them ended in. No more of them are begun than the budget holds.
        """
        wanted: list[Request] = []
        for request in requests:
            if self.store.get(request.job.key) is None:
                wanted.append(request)
            else:
                self._have(request)
        if self.width == 1:
            return
        while wanted:
            planned, wave = self._owed_ie(), list[Request]()
            for request in wanted:
                try:
                    self.ledger.check(planned + request.expected_ie, request.stage)
                except BudgetExhaustedError:
                    break
                planned += request.expected_ie
                wave.append(request)
            if not wave:
                return
            self._make([request.job for request in wave], told)
            for request in wave:
                if self.store.get(request.job.key) is not None:
                    self._have(request)
            wanted = wanted[len(wave) :]

    def settle(self) -> None:
        """Charge what was made ahead and never asked for."""
        for digest, request in list(self._ahead.items()):
            record = self.store.get(request.job.key)
            if record is not None:
                self._charge(request.stage, record)
            self._ahead.pop(digest, None)

    def pair_request(
        self, stage: str, prompt: str, seed: int, schedule: Schedule, expected_speedup: float = 1.0, repeat: int = 0
    ) -> Request:
        """What `pair` asks for."""
        work = {"schedule": ScheduleSection.from_schedule(schedule).model_dump(mode="json")}
        details = {"prompt": prompt, "seed": seed, "schedule": schedule.content_hash(), "repeat": repeat}
        return Request(stage, self.job("pair", work, **details), 1 + 1 / max(1.0, expected_speedup))

    def pair(
        self, stage: str, prompt: str, seed: int, schedule: Schedule, expected_speedup: float = 1.0, repeat: int = 0
    ) -> Pair:
        """One prompt and seed generated with and without a schedule, step by step in turn.

        Args:
            stage: line of the ledger.
            prompt, seed: what to generate.
            schedule: of the tuned side.
            expected_speedup: what it is expected to give, for the budget.
            repeat: tells repeated measurements of one setting apart.

        Raises:
            BudgetExhaustedError, NonFiniteError, UsageError: see `measure`.
        """
        request = self.pair_request(stage, prompt, seed, schedule, expected_speedup, repeat)
        pair = from_record(self.measure(stage, request.job, request.expected_ie))
        self._plain_seconds.append(pair.plain.seconds)
        self.ledger.unit_seconds = float(np.mean(self._plain_seconds))
        return pair

    def first_steps(self, stage: str, prompt: str, schedule: Schedule, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Seconds of the first `steps` denoising steps, plain and with a schedule, in turn."""
        work = {"schedule": ScheduleSection.from_schedule(schedule).model_dump(mode="json")}
        job = self.job("first-steps", work, prompt=prompt, steps=steps, schedule=schedule.content_hash())
        values = self.measure(stage, job).values
        return np.array(values["plain"]), np.array(values["tuned"])

    def _make(self, jobs: Sequence[Job], told: Told) -> None:
        if self.source is None:
            raise UsageError(
                f"The run in {self.store.folder} is not finished; go on with it by adding --resume to its command."
            )

        def keep(job: Job, outcome: Made | Exception) -> None:
            if isinstance(outcome, Exception):
                self._errors[job.key_hash] = outcome
            elif self.store.get(job.key) is None:
                self.store.put(job.key, *outcome)

        self.source.make(jobs, keep, told)

    def _have(self, request: Request) -> None:
        if request.job.key_hash not in self._charged:
            self._ahead[request.job.key_hash] = request

    def _owed_ie(self) -> float:
        """What was made ahead and is not charged yet, in generations."""
        unit = self.ledger.unit_seconds
        records = [self.store.get(request.job.key) for request in self._ahead.values()]
        return 0.0 if unit is None else sum(record.values[COST] for record in records if record is not None) / unit

    def _charge(self, stage: str, record: Record) -> None:
        self._ahead.pop(record.key_hash, None)
        if record.key_hash not in self._charged:  # asked for twice, it was paid for once
            self._charged.add(record.key_hash)
            self.ledger.charge(stage, record.values[COST])
