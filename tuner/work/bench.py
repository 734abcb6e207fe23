"""A loaded pipeline on which measurements are made, and its twin for pairs in lock-step."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asymrnr.schedule import Schedule
from tuner.run.lockstep import Turn, in_lockstep
from tuner.run.pair import Mode
from tuner.run.runner import Runner
from tuner.run.twin import NoTwinError, twin_pipeline


class Bench:
    """One loaded model.

    Attributes:
        runner: generates.
        unfinished: folder that keeps an interrupted profile; None for nowhere.
        why_no_twin: why pairs alternate instead of advancing in lock-step; None while they do not have to.
    """

    def __init__(self, runner: Runner, unfinished: Path | None = None) -> None:
        self.runner = runner
        self.unfinished = unfinished
        self.why_no_twin: str | None = None
        self._twin: Runner | None = None

    def in_turn(self, run: Callable[..., Any], schedule: Schedule, order: int) -> tuple[Any, Any, Mode]:
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

    def forget_unfinished(self) -> None:
        """A measurement is on disk, and what was kept of it while it was made is of no more use."""
        if self.unfinished is not None:
            shutil.rmtree(self.unfinished, ignore_errors=True)

    def _twin_runner(self) -> Runner | None:
        if self._twin is None and self.why_no_twin is None:
            try:
                self._twin = Runner(twin_pipeline(self.runner.pipe), self.runner.entry)
            except NoTwinError as error:
                self.why_no_twin = str(error)
        return self._twin
