"""Live progress of a run on the terminal; plain lines where the output is not a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuner.outlook import Outlook, Part

PLAIN_INTERVAL = 10.0  # seconds between lines where there is no terminal


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class LiveProgress:
    """Shows all parts of a run, how far the stage is, what the budget has left, the best result so far, and the time.

    Remaining time of the running stage follows from its own pace; that of the run from the generations still to come,
    and from how long one takes.
    """

    def __init__(self, console: Console | None = None, price: float | None = None) -> None:
        """
        Args:
            console: where to show it; stderr by default.
            price: of an hour of the device, to show money beside time.
        """
        self._price = price
        self.console = console or Console(stderr=True)
        self.began = self.stage_began = time.monotonic()
        self.name, self.detail, self.best_text = "start", "", ""
        self.done, self.total = 0.0, 0.0
        self.spent, self.limit = 0.0, 0.0
        self.unit_seconds: float | None = None
        self.outlook = Outlook()
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

    def plan(self, parts: Sequence[Part]) -> None:
        """The run consists of these parts."""
        self.outlook = Outlook(parts)

    def stage(self, name: str, detail: str = "") -> None:
        """A stage begins."""
        self.name, self.detail = name, detail
        self.outlook.enter(name, self.spent)
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

    def budget(self, spent: float, total: float, unit_seconds: float | None = None) -> None:
        """So many inference-equivalents are spent of the budget, and one takes so long."""
        self.spent, self.limit, self.unit_seconds = spent, total, unit_seconds

    def best(self, text: str) -> None:
        """The best result so far."""
        self.best_text = text
        self.console.print(f"           best so far: {text}", highlight=False)

    def _left(self) -> str:
        if self.done <= 0 or self.total <= 0:
            return "-"
        elapsed = time.monotonic() - self.stage_began
        return clock(elapsed * (self.total - self.done) / self.done)

    def _left_in_all(self) -> str:
        """The range of what the whole run still takes; nothing where it is not known."""
        left = self.outlook.left(self.spent, self.limit)
        if left is None or self.unit_seconds is None:
            return ""
        least, most = (generations * self.unit_seconds for generations in left)
        money = "" if self._price is None else f" ({self._money(least)} to {self._money(most)})"
        return f", {clock(least)} to {clock(most)} in all{money}"

    def _money(self, seconds: float) -> str:
        return f"{(self._price or 0.0) * seconds / 3600:.2f}"

    def _elapsed(self) -> str:
        seconds = time.monotonic() - self.began
        return clock(seconds) if self._price is None else f"{clock(seconds)} ({self._money(seconds)})"

    def _parts(self) -> Text:
        done, now, later = self.outlook.names()
        marked = [*(f"✓ {name}" for name in done), *now, *later]
        styles = [*("green" for _ in done), *("bold" for _ in now), *("dim" for _ in later)]
        return Text("  ").join(Text(name, style) for name, style in zip(marked, styles, strict=True))

    def _line(self) -> str:
        far = f"{self.done / self.total:.0%}" if self.total else ""
        elapsed = self._elapsed()
        budget = f"; budget {self.spent:.1f}/{self.limit:g}" if self.limit else ""
        return f"{elapsed} {self.name} {far} {self.detail}{budget}; left {self._left()}{self._left_in_all()}"

    def __rich__(self) -> Group:
        table = Table.grid(padding=(0, 2))
        elapsed = self._elapsed()
        if any(self.outlook.names()):
            table.add_row("run", self._parts())
        table.add_row("stage", Text(f"{self.name}  {self.detail}", overflow="ellipsis", no_wrap=True))
        table.add_row("progress", ProgressBar(total=self.total or 1, completed=self.done, width=40))
        if self.limit:
            table.add_row("budget", f"{self.spent:.2f} of {self.limit:g} generations")
        if self.best_text:
            table.add_row("best", self.best_text)
        table.add_row("time", f"{elapsed} elapsed, {self._left()} left in this stage{self._left_in_all()}")
        return Group(table)
