"""Live progress of a run on the terminal; plain lines where the output is not a terminal."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PLAIN_INTERVAL = 10.0  # seconds between lines where there is no terminal


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class LiveProgress:
    """Shows the stage, how far it is, what the budget has left, the best result so far, elapsed and remaining time.

    Remaining time is for the running stage, from its own pace.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self.began = self.stage_began = time.monotonic()
        self.name, self.detail, self.best_text = "start", "", ""
        self.done, self.total = 0.0, 0.0
        self.spent, self.limit = 0.0, 0.0
        self._printed = 0.0
        self._live = Live(self, console=self.console, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveProgress:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def stage(self, name: str, detail: str = "") -> None:
        """A stage begins."""
        self.name, self.detail = name, detail
        self.done = self.total = 0.0
        self.stage_began = time.monotonic()
        elapsed = clock(self.stage_began - self.began)
        self.console.print(f"[dim]{elapsed}[/] [bold]{name:<10}[/] {detail}", highlight=False)
        self._printed = self.stage_began

    def advance(self, done: float, total: float, detail: str = "") -> None:
        """The stage has done so much of its total."""
        self.done, self.total = done, total
        self.detail = detail or self.detail
        now = time.monotonic()
        if not self.console.is_terminal and now - self._printed >= PLAIN_INTERVAL:
            self._printed = now
            self.console.print(self._line(), highlight=False)

    def budget(self, spent: float, total: float) -> None:
        """So many inference-equivalents are spent of the budget."""
        self.spent, self.limit = spent, total

    def best(self, text: str) -> None:
        """The best result so far."""
        self.best_text = text
        self.console.print(f"           best so far: {text}", highlight=False)

    def _left(self) -> str:
        if self.done <= 0 or self.total <= 0:
            return "-"
        elapsed = time.monotonic() - self.stage_began
        return clock(elapsed * (self.total - self.done) / self.done)

    def _line(self) -> str:
        far = f"{self.done / self.total:.0%}" if self.total else ""
        elapsed = clock(time.monotonic() - self.began)
        budget = f"; budget {self.spent:.1f}/{self.limit:g}" if self.limit else ""
        return f"{elapsed} {self.name} {far} {self.detail}{budget}; left {self._left()}"

    def __rich__(self) -> Group:
        table = Table.grid(padding=(0, 2))
        elapsed = clock(time.monotonic() - self.began)
        table.add_row("stage", Text(f"{self.name}  {self.detail}", overflow="ellipsis", no_wrap=True))
        table.add_row("progress", ProgressBar(total=self.total or 1, completed=self.done, width=40))
        if self.limit:
            table.add_row("budget", f"{self.spent:.2f} of {self.limit:g} generations")
        if self.best_text:
            table.add_row("best", self.best_text)
        table.add_row("time", f"{elapsed} elapsed, {self._left()} left in this stage")
        return Group(table)
