"""What `asymrnr.apply` takes, as a schedule for one model."""

from __future__ import annotations

from pathlib import Path

from asymrnr.artifact import Artifact
from asymrnr.envelope import Envelope
from asymrnr.errors import ScheduleError
from asymrnr.schedule import Schedule
from asymrnr.shipped import load_shipped
from asymrnr.uniform import UniformSchedule


def resolve(what: Schedule | UniformSchedule | Artifact | str | Path, blocks: int) -> tuple[Schedule, Envelope]:
    """The schedule itself, and what it was made for.

    Args:
        what: a schedule, an artifact, or what `asymrnr.load` takes.
        blocks: of the model; decides what a uniform schedule becomes.

    Raises:
        ScheduleError: it is none of these.
        ArtifactError: there is no such artifact.
    """
    if isinstance(what, str | Path):
        what = load_shipped(what)
    match what:
        case Schedule():
            schedule = what
        case UniformSchedule():
            schedule = what.for_blocks(blocks)
        case Artifact():
            schedule = what.schedule_object()
        case _:
            kind = type(what).__name__
            raise ScheduleError(f"apply takes a Schedule, an artifact, or the name or file of one, not {kind}.")
    return schedule, Envelope.of(what, schedule)
