"""An artifact of a schedule that nobody measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from asymrnr.artifact import Artifact
from asymrnr.errors import ArtifactError, first_of
from asymrnr.fit import Here
from asymrnr.schedule import Schedule
from asymrnr.sections import ModelSection, ScheduleSection, WorkloadSection


def artifact_of(schedule: Schedule, for_: Any, *, frames: int, height: int, width: int) -> Artifact:
    """Without evidence, made for a pipeline and a size of video.

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
