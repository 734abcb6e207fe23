"""Looks up artifacts: by a model's name among the shipped profiles, by file, by a run's folder, or on the hub."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

from asymrnr.artifact import Artifact, tune_command
from asymrnr.artifact_io import load_artifact
from asymrnr.errors import ArtifactError
from asymrnr.hub import Place, load_pretrained
from asymrnr.lock import load_locked
from asymrnr.resources import profiles_folder
from asymrnr.schedule import Schedule

RUN_ARTIFACTS = "x*.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")


class NotCertified(UserWarning):
    """The schedule is predicted from those that are certified, or was measured and refused."""


def load(
    name_or_path: str | Path,
    profile: str | float | None = None,
    *,
    speedup: float | None = None,
    lock: str | Path | None = None,
) -> Schedule:
    """The schedule of a shipped profile, of an artifact file, of a run or of a repository on the hub.

    Args:
        name_or_path: name of a model that has shipped profiles ("tiny-cogvideox"), a file (a Path, or a string that
            ends in ".json"), the folder of a run, or a repository ("owner/name", or "owner/name@2" for a version).
        profile: which of the model's profiles, for example "8-steps"; without it the first certified one in the order
            of their names, or else the first. A number is a `speedup`.
        speedup: denoising speed-up wanted: the slowest schedule that was made for at least that; without it the one
            that the profile was tuned for.
        lock: a lock file (`asymrnr-tune lock`) that names the repository: it is then loaded without a network.

    Raises:
        ArtifactError: there is none, with what there is; or the file is damaged.

    Warns:
        NotCertified: it was predicted, or measured and refused, and not asked for by name.
    """
    return load_shipped(name_or_path, profile, speedup=speedup, lock=lock).schedule_object()


def load_shipped(
    name_or_path: str | Path,
    profile: str | float | None = None,
    *,
    speedup: float | None = None,
    lock: str | Path | None = None,
) -> Artifact:
    """Like `load`, with everything the artifact says: evidence, workload, certificate."""
    if speedup is None and isinstance(profile, int | float):
        speedup, profile = float(profile), None
    if lock is not None:
        artifact = load_locked(str(name_or_path), lock)
    else:
        artifact = _find(name_or_path, None if profile is None else str(profile))
    if speedup is None:
        if profile is None and not artifact.certified:
            _warn(artifact, "the schedule")
        return artifact
    found = artifact.at(speedup)
    if not found.certified:
        _warn(found, f"the schedule for {found.target:g}x")
    return found


def _warn(artifact: Artifact, what: str) -> None:
    predicted = artifact.evidence is None and artifact.prediction is not None
    known = "predicted, not measured" if predicted else "not certified"
    command = tune_command(artifact, f"--steps {artifact.workload.steps}")
    warnings.warn(
        f"{what.capitalize()} of {artifact.model.repo} is {known}; `{command}` certifies one.",
        NotCertified,
        stacklevel=4,
    )


def _find(name_or_path: str | Path, profile: str | None) -> Artifact:
    if isinstance(name_or_path, Path) or name_or_path.endswith(".json"):
        path = Path(name_or_path)
        if profile is not None:
            raise ArtifactError(f"A profile ('{profile}') goes with a model's name, not with the file {path}.")
        return load_artifact(_of_run(path) if path.is_dir() else path)
    folder = Path(name_or_path) if name_or_path.isprintable() else Path()
    if profile is None and folder.name and folder.is_dir() and any(folder.glob(RUN_ARTIFACTS)):
        return load_artifact(_of_run(folder))
    if profile is None and Place.parse(name_or_path) is not None:
        return load_pretrained(name_or_path)
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


def _of_run(folder: Path) -> Path:
    """The artifact of a run.

    Raises:
        ArtifactError: there is none, or more than one.
    """
    found = sorted(folder.glob(RUN_ARTIFACTS))
    if len(found) != 1:
        names = ", ".join(path.name for path in found)
        there_are = f"there are {names}; give one of them" if found else "there is none"
        raise ArtifactError(f"{folder} is no folder of a run with one artifact: {there_are}.")
    return found[0]


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
