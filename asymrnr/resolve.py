"""What `asymrnr.apply` takes, as a schedule for one model."""

from __future__ import annotations

from pathlib import Path

from asymrnr.artifact import Artifact
from asymrnr.errors import ScheduleError
from asymrnr.schedule import Schedule
from asymrnr.shipped import load_shipped
from asymrnr.uniform import UniformSchedule


def resolve(what: Schedule | UniformSchedule | Artifact | str | Path, blocks: int) -> tuple[Schedule, Artifact | None]:
    """The schedule itself, and the artifact that it comes from, where there is one.

    Args:
        what: a schedule, an artifact, or what `asymrnr.load` takes.
        blocks: of the model; decides what a uniform schedule becomes.

    Raises:
        ScheduleError: it is none of these.
        ArtifactError: there is no such artifact.
    """
    match what:
        case Schedule():
            return what, None
        case UniformSchedule():
            return what.for_blocks(blocks), None
        case Artifact():
            return what.schedule_object(), what
        case str() | Path():
            artifact = load_shipped(what)
            return artifact.schedule_object(), artifact
    raise ScheduleError(f"apply takes a Schedule, an artifact, or the name or file of one, not {type(what).__name__}.")
