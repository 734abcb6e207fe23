"""What a schedule can do beyond being applied: come from and go to plain values, files and the hub.

A schedule by itself does not say what it is for. So what is saved or pushed is an artifact without evidence, made for
the pipeline that is given along, and every way that loads artifacts loads it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from asymrnr.artifact import Artifact
    from asymrnr.hub_push import Pushed
    from asymrnr.schedule import Schedule
    from asymrnr.uniform import UniformSchedule

# The format of artifacts and the client of the hub build on schedules, so that they are imported where they are used.


class ScheduleIO:
    """Methods of `Schedule`."""

    @staticmethod
    def uniform(q: float = 0.0, v: float = 0.0, **settings: Any) -> UniformSchedule:
        """One rate for all blocks and steps of whatever model it is applied to.

        Args:
            q: share of the queries to drop, in [0, 1).
            v: share of the keys and values to drop, in [0, 1).
            settings: the other attributes of `UniformSchedule`.

        Raises:
            ScheduleError: a value is out of range.
        """
        from asymrnr.uniform import UniformSchedule

        return UniformSchedule(q, v, **settings)

    def to_dict(self) -> dict[str, Any]:
        """Everything it says, as plain values that JSON knows; rates are rounded to six decimals."""
        from asymrnr.sections import ScheduleSection

        return ScheduleSection.from_schedule(cast("Schedule", self)).model_dump(mode="json")

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Schedule:
        """The schedule of `to_dict`.

        Raises:
            ScheduleError: an entry is missing, unknown or out of range.
        """
        from pydantic import ValidationError

        from asymrnr.errors import ScheduleError, first_of
        from asymrnr.sections import ScheduleSection

        try:
            return ScheduleSection.model_validate(values).schedule()
        except ValidationError as error:
            raise ScheduleError(f"These values are no schedule: {first_of(error)}.") from None

    @staticmethod
    def from_pretrained(
        hub_id_or_path: str | Path, *, revision: str | None = None, token: str | None = None
    ) -> Schedule:
        """See `asymrnr.from_pretrained`."""
        from asymrnr.hub import from_pretrained

        return from_pretrained(hub_id_or_path, revision=revision, token=token)

    def artifact(self, for_: Any, *, frames: int, height: int, width: int) -> Artifact:
        """An artifact without evidence.

        Args:
            for_: the diffusers pipeline or denoiser that it was made for.
            frames: of the video.
            height: of the video, in pixels.
            width: of the video, in pixels.

        Raises:
            InterceptionError: the model is unknown.
            ArtifactError: the schedule does not fit the model, or the video has no size.
        """
        from asymrnr.handmade import artifact_of

        return artifact_of(cast("Schedule", self), for_, frames=frames, height=height, width=width)

    def save(self, path: Path | str, for_: Any, *, frames: int, height: int, width: int) -> Artifact:
        """Write it as an artifact without evidence, which `asymrnr.load` and `asymrnr.apply` take.

        Args:
            path: file to write.
            for_: see `artifact`.
            frames: see `artifact`.
            height: see `artifact`.
            width: see `artifact`.

        Raises:
            InterceptionError: the model is unknown.
            ArtifactError: it does not fit, or the file cannot be written.
        """
        from asymrnr.artifact_io import save_artifact

        return save_artifact(self.artifact(for_, frames=frames, height=height, width=width), path)

    def push_to_hub(
        self,
        repo_id: str,
        for_: Any,
        *,
        frames: int,
        height: int,
        width: int,
        private: bool | None = None,
        token: str | None = None,
    ) -> Pushed:
        """Upload it as the next version of a repository, as an artifact without evidence.

        Args:
            repo_id: "owner/name" on the hub.
            for_: see `artifact`.
            frames: see `artifact`.
            height: see `artifact`.
            width: see `artifact`.
            private: see `asymrnr.push_to_hub`.
            token: see `asymrnr.push_to_hub`.

        Raises:
            InterceptionError: the model is unknown.
            ArtifactError: it does not fit, or the hub refuses or cannot be reached.
        """
        from asymrnr.hub_push import push_to_hub

        made = self.artifact(for_, frames=frames, height=height, width=width)
        return push_to_hub(made, repo_id, private=private, token=token)
