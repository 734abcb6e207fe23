"""Counts what was reduced, so that a schedule cannot be inert without anyone noticing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from asymrnr.errors import InterceptionError, ScheduleError
from asymrnr.schedule import Schedule


@dataclass(frozen=True)
class Summary:
    """What happened in the last generation.

    Attributes:
        calls: attention calls seen at the sites.
        steps_seen: denoising steps.
        matches: matchings computed; the others came from the cache.
        reduced: per feature, (blocks, schedule columns) forward passes in which the site was reduced.
        planned: per feature, (blocks, schedule columns) forward passes in which the schedule asks for it.
    """

    calls: int
    steps_seen: int
    matches: int
    reduced: dict[str, np.ndarray]
    planned: dict[str, np.ndarray]

    def __str__(self) -> str:
        parts = [
            f"{feature} reduced at {int(self.reduced[feature].sum())} of {int(planned.sum())} planned sites"
            for feature, planned in self.planned.items()
        ]
        seen = f"{self.calls} attention calls in {self.steps_seen} steps, {self.matches} matchings"
        return "; ".join([seen, *parts])


class Counter:
    """Counts per forward pass; a pass interrupted by an exception does not count.

    Attributes:
        forwards: forward passes completed in the last generation.
    """

    def __init__(self, schedule: Schedule | None, blocks: int) -> None:
        self.schedule = schedule
        self.blocks = blocks
        self._tables = {} if schedule is None else schedule.effective_rates()
        self.start_generation()

    def start_generation(self) -> None:
        """Forget the previous generation."""
        self.forwards = self.calls = self.matches = 0
        self._steps: set[int] = set()
        shape = (self.blocks, self.schedule.steps if self.schedule else 1)
        self._planned = {feature: np.zeros(shape, dtype=np.int64) for feature in self._tables}
        self._reduced = {feature: np.zeros(shape, dtype=np.int64) for feature in self._tables}
        self._unseen = np.zeros(shape, dtype=np.int64)
        self._excused = np.zeros(shape, dtype=np.int64)
        self.start_forward(0)

    def start_forward(self, column: int) -> None:
        """Begin a forward pass at a schedule column."""
        self._column = column
        self._rates = {feature: table[:, column].tolist() for feature, table in self._tables.items()}
        self._called: set[int] = set()
        self._marked: set[tuple[str, int]] = set()

    def mark_call(self, row: int) -> None:
        self.calls += 1
        self._called.add(row)

    def mark_match(self) -> None:
        self.matches += 1

    def mark_reduced(self, feature: str, row: int) -> None:
        self._marked.add((feature, row))

    def finish_forward(self, step: int) -> list[int]:
        """Take the pass into the counts.

        Returns:
            The rows whose attention was not called in it.
        """
        self.forwards += 1
        self._steps.add(step)
        for feature, row in self._marked:
            self._reduced[feature][row, self._column] += 1
        for feature, table in self._tables.items():
            self._planned[feature][:, self._column] += table[:, self._column] > 0
        missing = [row for row in range(self.blocks) if row not in self._called]
        self._unseen[missing, self._column] += 1
        return missing

    def excuse(self, rows: list[int]) -> None:
        """A step or block cache skipped the attention of these rows in the pass just finished."""
        self._excused[rows, self._column] += 1

    def planned_rate(self, feature: str, row: int) -> float:
        """Rate the schedule asks for at a row in the running forward pass."""
        rates = self._rates.get(feature)
        return 0.0 if rates is None else rates[row]

    def summary(self) -> Summary:
        copies = [{feature: table.copy() for feature, table in d.items()} for d in (self._reduced, self._planned)]
        return Summary(self.calls, len(self._steps), self.matches, *copies)

    def verify(self) -> None:
        """Check that the last generation reduced what the schedule says; excused sites may be skipped.

        Raises:
            ScheduleError: something planned was not reduced.
            InterceptionError: without a schedule, a site was never seen.
        """
        if self.forwards == 0:
            raise ScheduleError("The model was not called while this was applied, so nothing was reduced or observed.")
        if self.schedule is None:
            unseen = int((self._unseen - self._excused).sum())
            if unseen:
                raise InterceptionError(f"Attention was never seen in {unseen} block calls.")
            return
        asks = any((table > 0).any() for table in self.schedule.rates.values())
        if asks and not any(table.any() for table in self._planned.values()):
            raise ScheduleError(
                "The schedule reduces nothing at the timesteps of this generation; it was made for another sampler."
            )
        for feature, planned in self._planned.items():
            missing = planned - self._reduced[feature] - self._excused
            if (missing > 0).any():
                block, column = np.argwhere(missing > 0)[0]
                raise ScheduleError(
                    f"{feature} was reduced at {int(self._reduced[feature].sum())} of the {int(planned.sum())} sites "
                    f"the schedule says; the first one missed is block {block}, schedule step {column}."
                )
