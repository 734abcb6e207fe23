"""A lock file: which commit of every repository, and what its files are, so that loading needs no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asymrnr.artifact import Artifact
from asymrnr.artifact_io import load_artifact
from asymrnr.errors import ArtifactError
from asymrnr.hub import FILE_NAME, Place, fetch

LOCK_NAME = "asymrnr.lock"


def lock(places: Sequence[str], path: Path | str = LOCK_NAME, *, token: str | None = None) -> dict[str, Any]:
    """Download versions into the hub client's cache, and write down what they are.

    Args:
        places: "owner/name" or "owner/name@2", a repository once.
        path: of the lock file; one that is there is replaced.
        token: hub access token, where a repository is not public.

    Returns:
        What was written: by repository the version, the commit, and the sha256 of every file.

    Raises:
        ArtifactError: one is no repository, or cannot be had; nothing is written then.
    """
    locked: dict[str, Any] = {}
    for text in places:
        place = Place.named(text)
        if place.repo in locked:
            raise ArtifactError(f"{place.repo} is named twice; a lock file holds one version of each.")
        found = fetch(place, token)
        locked[place.repo] = {"version": found.version, "commit": found.commit, "files": found.sha256()}
    Path(path).write_text(json.dumps(locked, indent=1, sort_keys=True) + "\n")
    return locked


def load_locked(repo: str, path: Path | str) -> Artifact:
    """The artifact that a lock file names, from the hub client's cache and without a network.

    Args:
        repo: "owner/name".
        path: of the lock file.

    Raises:
        ArtifactError: the lock file cannot be read or does not name it, or a file is missing or another one.
    """
    path, place = Path(path), Place.named(repo)
    try:
        entry = json.loads(path.read_text()).get(place.repo)
    except (OSError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} is no lock file that can be read; `asymrnr-tune lock` writes one.") from error
    if entry is None:
        raise ArtifactError(f"{path} does not name {repo}; `asymrnr-tune lock {repo}` writes one that does.")
    try:
        found = fetch(Place(place.repo, entry["commit"]), offline=True)
        here, wanted = found.sha256(), dict(entry["files"])
        changed = sorted(name for name in {*here, *wanted} if here.get(name) != wanted.get(name))
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged; `asymrnr-tune lock` writes another.") from error
    except ArtifactError as error:
        get = f"`asymrnr-tune pull {place.repo}@{entry['commit']}` gets it"
        raise ArtifactError(f"{str(error).rstrip('.')}; with a network, {get}.") from error
    if changed:
        raise ArtifactError(f"{changed[0]} of {place.repo} is not what {path} says; lock it again.")
    return load_artifact(found.paths[FILE_NAME])
