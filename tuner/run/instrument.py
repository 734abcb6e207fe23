"""Makes measurements: each is made once, kept before anybody uses it, and charged to the budget by one rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from asymrnr.schedule import Schedule
from tuner.errors import NonFiniteError, UsageError
from tuner.run.ledger import Ledger
from tuner.run.lockstep import Turn, in_lockstep
from tuner.run.pair import Mode, Pair, from_record, to_record
from tuner.run.runner import Runner
from tuner.run.store import MeasurementStore, Record
from tuner.run.twin import NoTwinError, twin_pipeline

Made = tuple[dict[str, Any], dict[str, np.ndarray]]
COST = "cost_seconds"
FAILED = "failed"


class Instrument:
    """One model under measurement.

    Attributes:
        store: what was measured.
        ledger: the budget.
        subject: what is measured, see `tuner.run.identity.subject`; part of every key.
        why_no_twin: why pairs alternate instead of advancing in lock-step; None while they do not have to.
    """

    def __init__(
        self, store: MeasurementStore, ledger: Ledger, subject: Mapping[str, Any], runner: Runner | None = None
    ) -> None:
        """
        Args:
            store, ledger, subject: see above.
            runner: generates; without it only what was measured before can be had.
        """
        self.store = store
        self.ledger = ledger
        self.subject = dict(subject)
        self.why_no_twin: str | None = None
        self._runner = runner
        self._twin: Runner | None = None
        self._plain_seconds: list[float] = []
        self._charged: set[str] = set()

    @property
    def runner(self) -> Runner:
        """What generates.

        Raises:
            UsageError: this instrument only reads.
        """
        if self._runner is None:
            raise UsageError(
                f"The run in {self.store.folder} is not finished; go on with it by adding --resume to its command."
            )
        return self._runner

    def key(self, kind: str, **details: Any) -> dict[str, Any]:
        """The store's key of one measurement of this model and workload."""
        return {"kind": kind, **self.subject, **details}

    def measure(self, stage: str, key: Mapping[str, Any], make: Callable[[], Made], expected_ie: float = 0.0) -> Record:
        """A measurement: read back where it is known, else made, recorded, and charged with the wall time it took.

        Args:
            stage: line of the ledger.
            key: see `key`.
            make: gives values and arrays to record.
            expected_ie: what it is expected to cost, in unaccelerated generations.

        Raises:
            BudgetExhaustedError: the budget does not hold it; nothing was done.
            NonFiniteError: the model produced NaN, now or when it was first measured.
            UsageError: it was never made, and this instrument only reads.
        """
        record = self.store.get(key)
        if record is None:
            self.ledger.check(expected_ie, stage)
            _ = self.runner
            began = perf_counter()
            values: dict[str, Any]
            arrays: dict[str, np.ndarray]
            try:
                values, arrays = make()
            except NonFiniteError as error:
                values, arrays = {FAILED: str(error)}, {}
            record = self.store.put(key, {**values, COST: perf_counter() - began}, arrays)
        if record.key_hash not in self._charged:  # asked for twice, it was paid for once
            self._charged.add(record.key_hash)
            self.ledger.charge(stage, record.values[COST])
        if FAILED in record.values:
            raise NonFiniteError(record.values[FAILED])
        return record

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
        key = self.key("pair", prompt=prompt, seed=seed, schedule=schedule.content_hash(), repeat=repeat)
        make = partial(self._make_pair, prompt, seed, schedule, repeat)
        pair = from_record(self.measure(stage, key, make, 1 + 1 / max(1.0, expected_speedup)))
        self._plain_seconds.append(pair.plain.seconds)
        self.ledger.unit_seconds = float(np.mean(self._plain_seconds))
        return pair

    def first_steps(self, stage: str, prompt: str, schedule: Schedule, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Seconds of the first `steps` denoising steps, plain and with a schedule, in turn."""

        def make() -> Made:
            plain, tuned, mode = self._in_turn(
                lambda runner, **how: runner.time_steps(steps, prompt, **how), schedule, 0
            )
            return {"plain": plain.tolist(), "tuned": tuned.tolist(), "mode": mode}, {}

        key = self.key("first-steps", prompt=prompt, steps=steps, schedule=schedule.content_hash())
        values = self.measure(stage, key, make).values
        return np.array(values["plain"]), np.array(values["tuned"])

    def _make_pair(self, prompt: str, seed: int, schedule: Schedule, repeat: int) -> Made:
        plain, tuned, mode = self._in_turn(
            lambda runner, **how: runner.generate(prompt, seed, **how), schedule, seed + repeat
        )
        return to_record(plain, tuned, schedule, mode)

    def _in_turn(self, run: Callable[..., Any], schedule: Schedule, order: int) -> tuple[Any, Any, Mode]:
        """Plain and tuned, in lock-step; one after the other, the first by `order`, where no twin can be made."""
        runner, twin = self.runner, self._twin_runner()
        if twin is None:
            if order % 2 == 0:
                plain = run(runner)
                return plain, run(runner, schedule=schedule), "alternating"
            tuned = run(runner, schedule=schedule)
            return run(runner), tuned, "alternating"
        # On a CPU, noise is common to neighbouring tenths of a second; a GPU would have to be emptied at every turn.
        within_steps = runner.device.type == "cpu"

        def plain_side(turn: Turn) -> Any:
            return run(runner, turn=turn, within_steps=within_steps)

        def tuned_side(turn: Turn) -> Any:
            return run(twin, schedule=schedule, turn=turn, within_steps=within_steps)

        return *in_lockstep(plain_side, tuned_side), "lock-step"

    def _twin_runner(self) -> Runner | None:
        if self._twin is None and self.why_no_twin is None:
            try:
                self._twin = Runner(twin_pipeline(self.runner.pipe), self.runner.entry)
            except NoTwinError as error:
                self.why_no_twin = str(error)
        return self._twin
