"""What a schedule was made for, and whether a generation is like that."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from asymrnr.artifact import Artifact
from asymrnr.partition import Grid
from asymrnr.schedule import Schedule


class OutsideEnvelope(UserWarning):
    """A generation is of another size or number of steps than the schedule was made for."""


@dataclass(frozen=True)
class Envelope:
    """What is known of the generations that a schedule was made for.

    Attributes:
        steps: denoising steps.
        exact: whether fewer of them than a generation has are worth a warning, too: of an artifact they are, while a
            schedule of one's own may end with a column that stands for all later steps.
        grid: (frames, height, width) in tokens; None where it is not known.
        certify: what to do about it.
    """

    steps: int
    exact: bool = False
    grid: Grid | None = None
    certify: str = ""

    @classmethod
    def of(cls, what: object, schedule: Schedule) -> Envelope:
        """Of an artifact, or of a schedule alone."""
        if not isinstance(what, Artifact):
            return cls(schedule.steps)
        workload = what.workload
        certify = (
            f"; `asymrnr-tune certify` checks it there, and `asymrnr-tune --model {what.model.repo}` makes another"
        )
        return cls(workload.steps, True, workload.grid, certify if what.certified else "")

    def warn(self, last_step: int | None, grid: Grid) -> bool:
        """Say what is different, in one sentence; nothing where nothing is.

        Args:
            last_step: of the generation, from 0; None where its scheduler does not tell.
            grid: of the generation, in tokens.

        Returns:
            Whether something was said.

        Warns:
            OutsideEnvelope: the generation is not like what the schedule was made for.
        """
        steps, found = None if last_step is None else last_step + 1, []
        if steps is not None and (steps < self.steps or (self.exact and steps != self.steps)):
            found.append(f"{self.steps} steps, but this generation has {steps}")
        if self.grid is not None and grid != self.grid:
            made, this = ("x".join(map(str, size)) for size in (self.grid, grid))
            found.append(f"{made} tokens (frames, rows, columns), but this generation has {this}")
        if found:
            what = f"The schedule was made for {' and for '.join(found)}{self.certify}."
            warnings.warn(what, OutsideEnvelope, stacklevel=2)
        return bool(found)
