"""Finds artifacts: shipped profiles by a model's name, files, folders of runs, and versions on the hub."""

from __future__ import annotations

import re
from pathlib import Path

from asymrnr.artifact import Artifact
from asymrnr.artifact_io import load_artifact
from asymrnr.errors import ArtifactError
from asymrnr.hub import Place, load_pretrained, versions
from asymrnr.resources import profiles_folder

RUN_ARTIFACTS = "x*.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")


def find(name_or_path: str | Path, profile: str | None = None) -> Artifact:
    """The artifact that goes by a name.

    Args:
        name_or_path: as for `asymrnr.load`.
        profile: which of a model's; without it the first certified one, or else the first.

    Raises:
        ArtifactError: there is none, with what there is; or the file is damaged.
    """
    path = _local(name_or_path, profile)
    if path is not None:
        return load_artifact(path)
    name = str(name_or_path)
    if profile is None and Place.parse(name) is not None:
        return load_pretrained(name)
    names = _profiles_of(name)
    folder = profiles_folder() / name
    if profile is not None:
        if _plain_name(profile) not in names:
            raise ArtifactError(f"There is no profile '{profile}' for '{name}'; there are {', '.join(names)}.")
        return load_artifact(folder / f"{profile}.json")
    artifacts = [load_artifact(folder / f"{each}.json") for each in names]
    return next((artifact for artifact in artifacts if artifact.certified), artifacts[0])


def find_all(name_or_path: str | Path) -> dict[str, Artifact]:
    """All that goes by a name: every profile of a model, every version of a repository, or the one artifact.

    Args:
        name_or_path: as for `asymrnr.load`.

    Returns:
        The artifacts by profile, version ("owner/name@2", newest first), or what was given.

    Raises:
        ArtifactError: as for `find`.
    """
    name = str(name_or_path)
    if _local(name_or_path, None) is not None:
        return {name: find(name_or_path)}
    place = Place.parse(name)
    if place is None:
        return {profile: find(name, profile) for profile in _profiles_of(name)}
    places = [place] if place.revision is not None else versions(place.repo) or [place]
    return {str(each): load_pretrained(str(each)) for each in places}


def available_profiles() -> dict[str, list[str]]:
    """The names of the shipped profiles by model, both sorted."""
    found: dict[str, list[str]] = {}
    for path in sorted(profiles_folder().glob("*/*.json"), key=lambda path: (path.parent.name, path.stem)):
        found.setdefault(path.parent.name, []).append(path.stem)
    return found


def _local(name_or_path: str | Path, profile: str | None) -> Path | None:
    """The file, if it is one or the folder of a run; with a profile a text that could be a model's name is one."""
    if isinstance(name_or_path, Path) or name_or_path.endswith(".json"):
        path = Path(name_or_path)
        if profile is not None:
            raise ArtifactError(f"A profile ('{profile}') goes with a model's name, not with the file {path}.")
        return _of_run(path) if path.is_dir() else path
    folder = Path(name_or_path) if name_or_path.isprintable() else Path()
    if profile is None and folder.name and folder.is_dir() and any(folder.glob(RUN_ARTIFACTS)):
        return _of_run(folder)
    return None


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


def _profiles_of(model: str) -> list[str]:
    profiles = available_profiles()
    if _plain_name(model) not in profiles:
        there_are = f"there are profiles for {', '.join(profiles)}" if profiles else "this installation ships none"
        raise ArtifactError(f"There is no profile for '{model}'; {there_are}.")
    return profiles[model]


def _plain_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ArtifactError(
            f"'{name}' is not the name of a profile: names have letters, digits, dots, dashes and underscores only "
            "(a file name ends in .json)."
        )
    return name
