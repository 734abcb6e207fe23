"""Looks up artifacts by the name of a model among the shipped profiles."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from asymrnr.artifact import Artifact
from asymrnr.artifact_io import load_artifact
from asymrnr.errors import ArtifactError
from asymrnr.resources import profiles_folder
from asymrnr.schedule import Schedule

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")


class NotCertified(UserWarning):
    """The schedule is predicted from those that are certified, or was measured and refused."""


def load(name_or_path: str | Path, profile: str | None = None, *, speedup: float | None = None) -> Schedule:
    """The schedule of a shipped profile or of an artifact file.

    Args:
        name_or_path: name of a model that has shipped profiles ("tiny-cogvideox"), or a file: a Path, or a string that
            ends in ".json".
        profile: which of the model's profiles, for example "8-steps"; without it the first certified one in the order
            of their names, or else the first.
        speedup: denoising speed-up wanted: the slowest schedule that was made for at least that; without it the one
            that the profile was tuned for. Where it is predicted only, a `NotCertified` warning says so.

    Raises:
        ArtifactError: there is none, with what there is; or the file is damaged.
    """
    return load_shipped(name_or_path, profile, speedup=speedup).schedule_object()


def load_shipped(name_or_path: str | Path, profile: str | None = None, *, speedup: float | None = None) -> Artifact:
    """Like `load`, with everything the artifact says: evidence, workload, certificate."""
    artifact = _find(name_or_path, profile)
    if speedup is None:
        return artifact
    found = artifact.at(speedup)
    if not found.certified:
        known = "predicted, not measured" if found.evidence is None else "not certified"
        warnings.warn(
            f"The schedule of {found.model.repo} for {found.target:g}x is {known}; "
            f"`asymrnr-tune --model {found.model.repo} --steps {found.workload.steps} --target-speedup "
            f"{found.target:g}` certifies one.",
            NotCertified,
            stacklevel=3,
        )
    return found


def _find(name_or_path: str | Path, profile: str | None) -> Artifact:
    if isinstance(name_or_path, Path) or name_or_path.endswith(".json"):
        if profile is not None:
            raise ArtifactError(f"A profile ('{profile}') goes with a model's name, not with the file {name_or_path}.")
        return load_artifact(name_or_path)
    name = _plain_name(name_or_path)
    if profile is not None:
        _plain_name(profile)
    profiles = available_profiles()
    if name not in profiles:
        there_are = f"there are profiles for {', '.join(profiles)}" if profiles else "this installation ships none"
        raise ArtifactError(f"There is no profile for '{name}'; {there_are}.")
    names = profiles[name]
    folder = profiles_folder() / name
    if profile is not None:
        if profile not in names:
            raise ArtifactError(f"There is no profile '{profile}' for '{name}'; there are {', '.join(names)}.")
        return load_artifact(folder / f"{profile}.json")
    artifacts = [load_artifact(folder / f"{each}.json") for each in names]
    return next((artifact for artifact in artifacts if artifact.certified), artifacts[0])


def available_profiles() -> dict[str, list[str]]:
    """The names of the shipped profiles by model, both sorted."""
    found: dict[str, list[str]] = {}
    for path in sorted(profiles_folder().glob("*/*.json"), key=lambda path: (path.parent.name, path.stem)):
        found.setdefault(path.parent.name, []).append(path.stem)
    return found


def _plain_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ArtifactError(
            f"'{name}' is not the name of a profile: names have letters, digits, dots, dashes and underscores only "
            "(a file name ends in .json)."
        )
    return name
