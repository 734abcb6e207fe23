"""Counts what was reduced, so that a schedule cannot be inert without anyone noticing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from asymrnr.actions import Action
from asymrnr.errors import InterceptionError, ScheduleError
from asymrnr.notebook import html_table
from asymrnr.schedule import Schedule


@dataclass(frozen=True, repr=False)
class Summary:
    """What happened in the last generation.

    Attributes:
        calls: attention calls seen at the sites.
        steps_seen: denoising steps.
        matches: matchings computed; the others came from the cache.
        reduced: per feature, (blocks, schedule columns) forward passes in which the site was reduced.
        planned: per feature, (blocks, schedule columns) forward passes in which the schedule asks for it.
        done: per action but reducing, (blocks, schedule columns) forward passes in which the site did it; a site that
            found nothing to build on refreshed. Empty for schedules without actions.
        planned_actions: the same, as the schedule asks for it.
        memory_bytes: most bytes kept for later steps at any time: matchings, and what refreshes left, see `Memory`.
        skipped: (blocks, schedule columns) forward passes in which a cache left out the site's attention.
        partner: the cache that the schedule brought, in words.
    """

    calls: int
    steps_seen: int
    matches: int
    reduced: dict[str, np.ndarray]
    planned: dict[str, np.ndarray]
    done: dict[Action, np.ndarray] = field(default_factory=dict)
    planned_actions: dict[Action, np.ndarray] = field(default_factory=dict)
    memory_bytes: int = 0
    skipped: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    partner: str | None = None

    def __repr__(self) -> str:
        return f"<Summary: {self}>"

    def __str__(self) -> str:
        return "; ".join(f"{name} {value}".strip() for name, value in self._facts())

    def _repr_html_(self) -> str:
        return html_table("Last generation", self._facts())

    def _facts(self) -> list[tuple[str, str]]:
        seen = f"{self.calls} attention calls in {self.steps_seen} steps, {self.matches} matchings"
        found = [("", seen)]
        counts = [(f"{name} reduced", self.reduced[name], planned) for name, planned in self.planned.items()]
        counts += [(_DONE[action], self.done[action], planned) for action, planned in self.planned_actions.items()]
        found += [
            (what, f"at {int(done.sum())} of {int(planned.sum())} planned sites") for what, done, planned in counts
        ]
        if self.memory_bytes:
            found.append(("", f"{self.memory_bytes / 2**20:.1f} MiB kept at most"))
        if self.skipped.any() or self.partner is not None:
            found.append((self.partner or "a cache", f"left out {int(self.skipped.sum())} site calls"))
        return found


Name = TypeVar("Name")

_DONE = {
    Action.REFRESH: "memory refreshed",
    Action.MEMORY: "restored with memory",
    Action.BROADCAST: "broadcast",
}


class Counter:
    """Counts per forward pass; a pass interrupted by an exception does not count.

    Attributes:
        late: rows that found nothing to build on in the pass just finished, and refreshed instead.
        forwards: forward passes completed in the last generation.
    """

    def __init__(self, schedule: Schedule | None, blocks: int) -> None:
        self.schedule = schedule
        self.blocks = blocks
        self._tables = {} if schedule is None else schedule.effective_rates()
        self._acts = tuple(_DONE) if schedule is not None and schedule.actions is not None else ()
        self.late: list[int] = []
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
        self._skipped = np.zeros(shape, dtype=np.int64)
        self._planned_actions = {action: np.zeros(shape, dtype=np.int64) for action in self._acts}
        self._done = {action: np.zeros(shape, dtype=np.int64) for action in self._acts}
        self._held = 0
        self.start_forward(0)

    def start_forward(self, column: int, actions: list[int] | None = None) -> None:
        """Begin a forward pass at a schedule column; actions of all blocks as `Memory.enter` gives them."""
        self._column = column
        self._actions = [Action.REDUCE] * self.blocks if actions is None else [Action(action) for action in actions]
        self._acted: set[tuple[Action, int]] = set()
        self._rates = {feature: table[:, column].tolist() for feature, table in self._tables.items()}
        self._called: set[int] = set()
        self._marked: set[tuple[str, int]] = set()

    def mark_call(self, row: int) -> None:
        self.calls += 1
        self._called.add(row)

    def mark_broadcast(self, row: int) -> None:
        self._called.add(row)
        self.mark_action(Action.BROADCAST, row)

    def mark_action(self, action: Action, row: int) -> None:
        self._acted.add((action, row))

    def mark_held(self, held: int) -> None:
        """So many bytes are kept for later steps now."""
        self._held = max(self._held, held)

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
        column, actions = self._column, np.array(self._actions)
        for action, row in self._acted:
            self._done[action][row, column] += 1
        for action, planned in self._planned_actions.items():
            planned[:, column] += actions == action
        for feature, table in self._tables.items():
            self._planned[feature][:, column] += (table[:, column] > 0) & (actions != Action.REFRESH)
        needy = (Action.MEMORY, Action.BROADCAST)
        self.late = [row for action, row in self._acted if action == Action.REFRESH and self._actions[row] in needy]
        missing = [row for row in range(self.blocks) if row not in self._called]
        self._unseen[missing, self._column] += 1
        return missing

    def excuse(self, skipped: list[int], late: list[int]) -> None:
        """A step or block cache left out the attention of rows in the pass just finished, or once what they build on.

        Args:
            skipped: rows whose attention was not called.
            late: see `Counter`.
        """
        self._skipped[skipped, self._column] += 1
        self._excused[skipped + late, self._column] += 1

    def action(self, row: int) -> Action:
        """What a row is to do in the running forward pass."""
        return self._actions[row]

    def planned_rate(self, feature: str, row: int) -> float:
        """Rate the schedule asks for at a row in the running forward pass."""
        rates = self._rates.get(feature)
        return 0.0 if rates is None else rates[row]

    def summary(self) -> Summary:
        def copy(tables: dict[Name, np.ndarray]) -> dict[Name, np.ndarray]:
            return {name: table.copy() for name, table in tables.items()}

        return Summary(
            calls=self.calls,
            steps_seen=len(self._steps),
            matches=self.matches,
            reduced=copy(self._reduced),
            planned=copy(self._planned),
            done=copy(self._done),
            planned_actions=copy(self._planned_actions),
            memory_bytes=self._held,
            skipped=self._skipped.copy(),
            partner=None if self.schedule is None or self.schedule.partner is None else str(self.schedule.partner),
        )

    def verify(self) -> None:
        """Check that the last generation reduced what the schedule says; excused sites may be skipped.

        Raises:
            ScheduleError: something planned was not reduced.
            InterceptionError: without a schedule, a site was never seen.
        """
        if self.forwards == 0:
            raise ScheduleError("The model was not called while this was applied, so nothing was reduced or observed.")
        if self.schedule is None:
            self._verify_sites(slice(None))
            return
        needs = [self._planned_actions[a] for a in self._acts if a != Action.REFRESH]
        asks = self.schedule.actions is not None or any((table > 0).any() for table in self.schedule.rates.values())
        if asks and not any(table.any() for table in [*self._planned.values(), *needs]):
            raise ScheduleError(
                "The schedule reduces nothing at the timesteps of this generation; it was made for another sampler."
            )
        self._verify_sites(slice(None))

    def verify_pass(self) -> None:
        """Check the forward pass that was finished last, as `verify` checks all.

        Raises:
            ScheduleError, InterceptionError: see `verify`.
        """
        self._verify_sites(slice(self._column, self._column + 1))

    def _verify_sites(self, columns: slice) -> None:
        if self.schedule is None:
            unseen = int((self._unseen - self._excused)[:, columns].sum())
            if unseen:
                raise InterceptionError(f"Attention was never seen in {unseen} block calls.")
        checks = [(f"{name} was reduced", self._planned[name], self._reduced[name]) for name in self._tables]
        checks += [(_DONE[a].capitalize(), self._planned_actions[a], self._done[a]) for a in self._acts]
        for what, planned, done in checks:
            missing = (planned - done - self._excused)[:, columns]
            if (missing > 0).any():
                block, column = np.argwhere(missing > 0)[0]
                raise ScheduleError(
                    f"{what} at {int(done.sum())} of the {int(planned.sum())} sites the schedule says; the first one "
                    f"missed is block {block}, schedule step {column + (columns.start or 0)}."
                )
