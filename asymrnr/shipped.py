"""Looks up artifacts by the name of a model among the shipped profiles."""

from __future__ import annotations

import re
from pathlib import Path

from asymrnr.artifact import Artifact
from asymrnr.artifact_io import load_artifact
from asymrnr.errors import ArtifactError
from asymrnr.resources import profiles_folder
from asymrnr.schedule import Schedule

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")


def load(name_or_path: str | Path, target: str | None = None) -> Schedule:
    """The schedule of a shipped profile or of an artifact file.

    Args:
        name_or_path: name of a model that has shipped profiles ("tiny-cogvideox"), or a file: a Path, or a string that
            ends in ".json".
        target: which of the model's profiles, for example "x1.30"; without it the first certified one in the order of
            their names, or else the first.

    Raises:
        ArtifactError: there is none, with what there is; or the file is damaged.
    """
    return load_shipped(name_or_path, target).schedule_object()


def load_shipped(name_or_path: str | Path, target: str | None = None) -> Artifact:
    """Like `load`, with everything the artifact says: evidence, workload, certificate."""
    if isinstance(name_or_path, Path) or name_or_path.endswith(".json"):
        if target is not None:
            raise ArtifactError(f"A target ('{target}') goes with a model's name, not with the file {name_or_path}.")
        return load_artifact(name_or_path)
    name = _plain_name(name_or_path)
    if target is not None:
        _plain_name(target)
    profiles = available_profiles()
    if name not in profiles:
        there_are = f"there are profiles for {', '.join(profiles)}" if profiles else "this installation ships none"
        raise ArtifactError(f"There is no profile for '{name}'; {there_are}.")
    targets = profiles[name]
    folder = profiles_folder() / name
    if target is not None:
        if target not in targets:
            raise ArtifactError(f"There is no profile '{target}' for '{name}'; there are {', '.join(targets)}.")
        return load_artifact(folder / f"{target}.json")
    artifacts = [load_artifact(folder / f"{each}.json") for each in targets]
    return next((artifact for artifact in artifacts if artifact.certified), artifacts[0])


def available_profiles() -> dict[str, list[str]]:
    """The shipped profiles: their targets by model, both sorted by name."""
    found: dict[str, list[str]] = {}
    for path in sorted(profiles_folder().glob("*/*.json")):
        found.setdefault(path.parent.name, []).append(path.stem)
    return found


def _plain_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ArtifactError(
            f"'{name}' is not the name of a profile: names have letters, digits, dots, dashes and underscores only "
            "(a file name ends in .json)."
        )
    return name
