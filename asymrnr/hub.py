"""Artifacts on the Hugging Face hub: where one is, and how it comes here.

A repository holds an artifact, a model card, a plot of the schedules that were measured, and `metadata.json` with the
sha256 of all of them. Its versions are branches v1,
v2, and so on, which stay what they are once they are out; `main` is the newest.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asymrnr.artifact import Artifact
from asymrnr.artifact_io import Policy, load_artifact
from asymrnr.errors import ArtifactError
from asymrnr.schedule import Schedule

FILE_NAME, CARD_NAME, METADATA_NAME = "asymrnr_schedule.json", "README.md", "metadata.json"
PLOT_NAME = "frontier.svg"
_VERSION = re.compile(r"v([1-9]\d*)")
_PLACE = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[\w.-]+)(@(?P<version>[\w.-]+))?")


@dataclass(frozen=True)
class Place:
    """A repository, and which of its versions.

    Attributes:
        repo: "owner/name".
        revision: branch, tag or commit; None is the newest.
    """

    repo: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str, revision: str | None = None) -> Place | None:
        """From "owner/name" or "owner/name@2" (also @v2, or a commit); None where it is neither.

        Args:
            text: what a user wrote.
            revision: where the text names none.
        """
        found = _PLACE.fullmatch(text)
        if found is None or text.endswith(".json"):
            return None
        version = found["version"] or revision
        return cls(found["repo"], f"v{version}" if version is not None and version.isdecimal() else version)

    @classmethod
    def named(cls, text: str) -> Place:
        """The same where nothing else will do.

        Raises:
            ArtifactError: it is neither.
        """
        place = cls.parse(text)
        if place is None:
            raise ArtifactError(f"'{text}' is no repository of the hub; give owner/name or owner/name@version.")
        return place

    @property
    def version(self) -> int | None:
        """Its number; None for the newest, and for other revisions."""
        found = None if self.revision is None else _VERSION.fullmatch(self.revision)
        return None if found is None else int(found[1])

    def __str__(self) -> str:
        revision = self.revision if self.version is None else self.version
        return self.repo if revision is None else f"{self.repo}@{revision}"


def versions(repo: str, token: str | None = None) -> list[Place]:
    """The versions of a repository that are out, newest first.

    Raises:
        ArtifactError: the hub refuses or cannot be reached.
    """
    import huggingface_hub

    try:
        branches = huggingface_hub.HfApi(token=token).list_repo_refs(repo).branches
    except Exception as error:  # the hub client's errors have no common base
        raise ArtifactError(f"The versions of {repo} cannot be had from the hub: {one_line(error)}.") from error
    places = (Place(repo, branch.name) for branch in branches)
    return sorted((each for each in places if each.version is not None), key=lambda each: -(each.version or 0))


@dataclass(frozen=True)
class Fetched:
    """The files of one version, in the hub client's cache.

    Attributes:
        commit: of the repository.
        version: as its metadata says; None where it has none.
        paths: by file name; the artifact at least.
    """

    commit: str
    version: int | None
    paths: dict[str, Path]

    def sha256(self) -> dict[str, str]:
        """Of every file, by its name."""
        return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in self.paths.items()}


def fetch(place: Place, token: str | None = None, offline: bool = False) -> Fetched:
    """Download one version, or find it in the cache, and hold its files against its metadata.

    Args:
        place: which.
        token: hub access token, where the repository is not public.
        offline: look in the cache only; the place's revision is a commit then.

    Raises:
        ArtifactError: it cannot be had, or a file is not the one that was pushed.
    """
    artifact = _download(place.repo, FILE_NAME, place.revision, token, offline)
    commit = artifact.parent.name  # of the client's cache
    paths, version = {FILE_NAME: artifact}, None
    try:
        paths[METADATA_NAME] = _download(place.repo, METADATA_NAME, commit, token, offline)
    except ArtifactError as error:
        if not _does_not_exist(error, offline):
            raise
        return Fetched(commit, None, paths)  # pushed by an earlier release
    try:
        metadata = json.loads(paths[METADATA_NAME].read_text())
        version, wanted = int(metadata["version"]), dict(metadata["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{METADATA_NAME} of {place} is damaged; pull another version.") from error
    for name in sorted(set(wanted) - set(paths)):
        paths[name] = _download(place.repo, name, commit, token, offline)
    found = Fetched(commit, version, paths)
    changed = [name for name, sha256 in found.sha256().items() if wanted.get(name, sha256) != sha256]
    if changed:
        raise ArtifactError(f"{changed[0]} of {place} is not the file that was pushed; pull another version.")
    return found


def from_pretrained(hub_id_or_path: str | Path, *, revision: str | None = None, token: str | None = None) -> Schedule:
    """The schedule in an artifact file, a folder that holds one, or a hub repository.

    Args:
        hub_id_or_path: file, folder with `asymrnr_schedule.json`, or "owner/name" on the hub, with "@2" for a version.
        revision: branch, tag or commit of the hub repository; pin a commit to get the same schedule every time.
        token: hub access token, where the repository is not public.

    Raises:
        ArtifactError: nothing is there, it cannot be downloaded, or it is damaged.
    """
    return load_pretrained(hub_id_or_path, revision=revision, token=token).schedule_object()


def load_pretrained(
    hub_id_or_path: str | Path,
    *,
    revision: str | None = None,
    token: str | None = None,
    policy: Policy = "strict",
    expected: dict[str, dict[str, Any]] | None = None,
) -> Artifact:
    """Like `from_pretrained`, with everything the artifact says; policy and expected as in `load_artifact`."""
    path = Path(hub_id_or_path)
    if path.is_dir():
        path = path / FILE_NAME
    elif not path.is_file() and not isinstance(hub_id_or_path, Path):
        place = Place.parse(hub_id_or_path, revision)
        if place is None:
            raise ArtifactError(f"'{hub_id_or_path}' is no file here, and no repository of the hub (owner/name).")
        path = fetch(place, token).paths[FILE_NAME]
    return load_artifact(path, policy, expected)


def _download(repo_id: str, name: str, revision: str | None, token: str | None, offline: bool) -> Path:
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.hf_hub_download(repo_id, name, revision=revision, token=token, local_files_only=offline)
        )
    except Exception as error:  # the hub client's errors have no common base
        if offline:
            raise ArtifactError(f"{name} of {repo_id} at {revision} is not in the cache of the hub client.") from error
        raise ArtifactError(
            f"'{repo_id}' is no file here, and {name} cannot be had from the hub: {one_line(error)}."
        ) from error


def _does_not_exist(error: ArtifactError, offline: bool) -> bool:
    """Whether a file cannot be had because there is none; of a cache alone, that is all that can be said."""
    from huggingface_hub.errors import EntryNotFoundError, RemoteEntryNotFoundError

    return isinstance(error.__cause__, EntryNotFoundError if offline else RemoteEntryNotFoundError)


def one_line(error: Exception) -> str:
    """The first line of an error's message, or its class."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")
