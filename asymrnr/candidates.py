"""Which of all the schedules that go by a name fit a pipeline, and why the others do not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asymrnr.artifact import Artifact
from asymrnr.find import find_all
from asymrnr.fit import Here, misfits, remarks
from asymrnr.lock import load_locked


@dataclass(frozen=True)
class Candidate:
    """One schedule that was looked at.

    Attributes:
        name: profile, version or file that it is in.
        artifact: it, with the schedule in the first place.
        against: why it is rejected; empty where it is accepted.
        remarks: what its certificate does not cover here.
    """

    name: str
    artifact: Artifact
    against: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether it can be used."""
        return not self.against

    def __str__(self) -> str:
        target = self.artifact.target
        name = self.name if target is None else f"{self.name} at {target:g}x"
        said = self.against or self.remarks
        return f"{name}: {'accepted' if self.accepted else 'rejected'}{', ' if said else ''}{' and '.join(said)}"


def candidates(
    name_or_path: str | Path,
    for_: Any,
    *,
    speedup: float | None = None,
    steps: int | None = None,
    frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    lock: str | Path | None = None,
) -> list[Candidate]:
    """Look at every schedule that goes by a name, best first.

    Those that can be used come first; among them with a `speedup` the slowest that was made for at least that, else
    the one whose certificate covers most of what is here; then shipped profiles by name, versions newest first.

    Args:
        name_or_path: as for `asymrnr.load`.
        for_: the diffusers pipeline or denoiser that it is for.
        speedup: denoising speed-up wanted.
        steps: denoising steps to generate with it; None where it does not matter.
        frames: of the video to generate; None where it does not matter.
        height: of the video, in pixels; None where it does not matter.
        width: of the video, in pixels; None where it does not matter.
        lock: a lock file, as for `asymrnr.load`.

    Raises:
        ArtifactError: there is nothing of that name, or a file is damaged.
        InterceptionError: the model is unknown.
    """
    here = Here.of(for_, {"steps": steps, "frames": frames, "height": height, "width": width})
    there_are = find_all(name_or_path) if lock is None else {str(name_or_path): load_locked(str(name_or_path), lock)}
    found = []
    for name, artifact in there_are.items():
        for each in [artifact.at(point.target) for point in artifact.points()] or [artifact]:
            against = misfits(each, here)
            if speedup is not None and (each.target is None or each.target < speedup):
                against.append(f"was not made for {speedup:g}x")
            found.append(Candidate(name, each, tuple(against), () if against else tuple(remarks(each, here))))

    def rank(candidate: Candidate) -> tuple[bool, float, int]:
        target = candidate.artifact.target
        return not candidate.accepted, 0.0 if speedup is None else target or 0.0, len(candidate.remarks)

    return sorted(found, key=rank)
