"""The live table of a plan on the terminal; plain lines where the output is not a terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from tuner.fleet.states import State
from tuner.outlook import Part
from tuner.report.console import PLAIN_INTERVAL, clock

STYLES = {"waiting": "dim", "running": "bold", "certified": "green", "not certified": "yellow"}


class FleetTable:
    """Every run of a plan, how far the running one is, and what the others came to."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.began = time.monotonic()
        self.states: Mapping[str, State] = {}
        self.doing: dict[str, str] = {}
        self.spent: dict[str, float] = {}
        self._live = Live(self, console=self.console, refresh_per_second=4)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def show(self, states: Mapping[str, State]) -> None:
        """The states are these now."""
        changed = [state for name, state in states.items() if self.states.get(name) != state]
        self.states = dict(states)
        if not self.console.is_terminal:
            for state in changed:
                if state.state != "waiting":
                    self.console.print(f"{self._elapsed()} {state.name}: {verdict(state)}", highlight=False)

    def progress_of(self, name: str) -> RowProgress:
        """Progress of one run, in its row."""
        return RowProgress(self, name)

    def _elapsed(self) -> str:
        return clock(time.monotonic() - self.began)

    def __rich__(self) -> Table:
        done = sum(state.exit_code is not None for state in self.states.values())
        table = Table(title=f"{done} of {len(self.states)} runs, {self._elapsed()}", title_justify="left")
        for column in ("run", "state", "doing", "generations", "certified"):
            table.add_column(column)
        for name, state in self.states.items():
            spent = self.spent.get(name) if state.spent is None else state.spent
            table.add_row(
                name,
                verdict(state),
                self.doing.get(name, "") if state.state == "running" else "",
                "" if spent is None else f"{spent:.1f}",
                "" if state.speedup is None or state.exit_code != 0 else f"{state.speedup:.3f}x",
                style=STYLES[state.state],
            )
        return table


def verdict(state: State) -> str:
    """A state in a few words."""
    return state.state if not state.exit_code else f"{state.state} (exit code {state.exit_code})"


class RowProgress:
    """What one run is doing; see `tuner.context.Progress`."""

    def __init__(self, table: FleetTable, name: str) -> None:
        self._table, self._name = table, name
        self._stage, self._printed = "", 0.0

    def plan(self, parts: Sequence[Part]) -> None:
        """Nothing of it is shown."""

    def stage(self, name: str, detail: str = "") -> None:
        """A stage begins."""
        self._stage = name
        self._say(f"{name} {detail}")

    def advance(self, done: float, total: float, detail: str = "") -> None:
        """The stage has done so much of its total."""
        self._say(f"{self._stage} {done / total:.0%} {detail}" if total else self._stage)

    def budget(self, spent: float, total: float, unit_seconds: float | None = None) -> None:
        """So many generations are spent."""
        self._table.spent[self._name] = spent

    def best(self, text: str) -> None:
        """The best result so far."""
        self._say(f"{self._stage}: {text}")

    def _say(self, text: str) -> None:
        self._table.doing[self._name] = text[:60]
        console, now = self._table.console, time.monotonic()
        if not console.is_terminal and now - self._printed >= PLAIN_INTERVAL:
            self._printed = now
            console.print(f"{self._table._elapsed()} {self._name}: {text}", highlight=False)
