"""What a schedule can do beyond being applied: come from and go to plain values, files and the hub.

These are methods of `Schedule`, attached here: the format of artifacts and the client of the hub build on schedules,
and imports flow one way. A schedule by itself does not say what it is for. So what is saved or pushed is an artifact
without evidence, made for the pipeline that is given along, and every way that loads artifacts loads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from asymrnr.artifact import Artifact
from asymrnr.artifact_io import save_artifact
from asymrnr.errors import ArtifactError, ScheduleError, first_of
from asymrnr.fit import Here
from asymrnr.hub import from_pretrained
from asymrnr.hub_push import Pushed, push_to_hub
from asymrnr.schedule import Schedule
from asymrnr.sections import ModelSection, ScheduleSection, WorkloadSection
from asymrnr.uniform import UniformSchedule


def uniform(q: float = 0.0, v: float = 0.0, **settings: Any) -> UniformSchedule:
    """`Schedule.uniform`: one rate for all blocks and steps of whatever model it is applied to.

    Args:
        q: share of the queries to drop, in [0, 1).
        v: share of the keys and values to drop, in [0, 1).
        settings: the other attributes of `UniformSchedule`.

    Raises:
        ScheduleError: a value is out of range.
    """
    return UniformSchedule(q, v, **settings)


def to_dict(schedule: Schedule) -> dict[str, Any]:
    """`schedule.to_dict()`: everything it says, as plain values that JSON knows; rates are rounded to six decimals."""
    return ScheduleSection.from_schedule(schedule).model_dump(mode="json")


def from_dict(values: dict[str, Any]) -> Schedule:
    """`Schedule.from_dict`: the schedule of `to_dict`.

    Raises:
        ScheduleError: an entry is missing, unknown or out of range.
    """
    try:
        return ScheduleSection.model_validate(values).schedule()
    except ValidationError as error:
        raise ScheduleError(f"These values are no schedule: {first_of(error)}.") from None


def artifact_of(schedule: Schedule, for_: Any, *, frames: int, height: int, width: int) -> Artifact:
    """`schedule.artifact(for_, ...)`: an artifact without evidence.

    Args:
        schedule: what it is to hold.
        for_: the diffusers pipeline or denoiser that it was made for.
        frames: of the video.
        height: of the video, in pixels.
        width: of the video, in pixels.

    Raises:
        InterceptionError: the model is unknown.
        ArtifactError: the schedule does not fit the model, or the video has no size.
    """
    here = Here.of(for_, {})
    origin = str(for_.config.get("_name_or_path") or here.transformer)
    try:
        return Artifact(
            model=ModelSection(
                repo=Path(origin).name if Path(origin).exists() else origin,  # folders are nobody else's business
                transformer=here.transformer,
                blocks=here.blocks,
            ),
            workload=WorkloadSection(
                frames=frames,
                height=height,
                width=width,
                steps=schedule.steps,
                scheduler=here.scheduler,
                dtype=here.dtype,
            ),
            schedule=ScheduleSection.from_schedule(schedule),
        )
    except ValidationError as error:
        raise ArtifactError(f"The schedule cannot be saved: {first_of(error)}.") from None


def save(schedule: Schedule, path: Path | str, for_: Any, *, frames: int, height: int, width: int) -> Artifact:
    """`schedule.save(path, for_, ...)`: write it as an artifact, which `asymrnr.load` and `asymrnr.apply` take.

    Args:
        schedule: what to save.
        path: file to write.
        for_: see `artifact_of`.
        frames: see `artifact_of`.
        height: see `artifact_of`.
        width: see `artifact_of`.

    Raises:
        InterceptionError: the model is unknown.
        ArtifactError: it does not fit, or the file cannot be written.
    """
    return save_artifact(artifact_of(schedule, for_, frames=frames, height=height, width=width), path)


def push(
    schedule: Schedule,
    repo_id: str,
    for_: Any,
    *,
    frames: int,
    height: int,
    width: int,
    private: bool | None = None,
    token: str | None = None,
) -> Pushed:
    """`schedule.push_to_hub(repo_id, for_, ...)`: upload it as the next version of a repository.

    Args:
        schedule: what to share.
        repo_id: "owner/name" on the hub.
        for_: see `artifact_of`.
        frames: see `artifact_of`.
        height: see `artifact_of`.
        width: see `artifact_of`.
        private: see `asymrnr.push_to_hub`.
        token: see `asymrnr.push_to_hub`.

    Raises:
        InterceptionError: the model is unknown.
        ArtifactError: it does not fit, or the hub refuses or cannot be reached.
    """
    made = artifact_of(schedule, for_, frames=frames, height=height, width=width)
    return push_to_hub(made, repo_id, private=private, token=token)


Schedule.uniform = staticmethod(uniform)
Schedule.from_dict = staticmethod(from_dict)
Schedule.from_pretrained = staticmethod(from_pretrained)
Schedule.to_dict = to_dict
Schedule.artifact = artifact_of
Schedule.save = save
Schedule.push_to_hub = push
