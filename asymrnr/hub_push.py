"""Puts artifacts on the Hugging Face hub, version after version."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from asymrnr.artifact import Artifact
from asymrnr.errors import ArtifactError
from asymrnr.hub import CARD_NAME, FILE_NAME, METADATA_NAME, PLOT_NAME, one_line, versions
from asymrnr.hub_card import model_card
from asymrnr.hub_plot import frontier_svg


@dataclass(frozen=True)
class Pushed:
    """A version that is out.

    Attributes:
        repo: "owner/name".
        version: its number.
        commit: of the repository.
        url: address of the commit.
    """

    repo: str
    version: int
    commit: str
    url: str

    def __str__(self) -> str:
        return f"{self.repo}@{self.version}"


def push_to_hub(
    artifact: Artifact,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str | None = None,
) -> Pushed:
    """Upload an artifact as the next version of a repository, which is created where needed.

    Args:
        artifact: what to share; its sha256 is filled in.
        repo_id: "owner/name" on the hub.
        private: whether a new repository is private; None leaves it to the hub's default.
        token: hub access token with write permission; None uses the stored login.
        commit_message: of the upload.

    Raises:
        ArtifactError: the hub refuses or cannot be reached.
    """
    import huggingface_hub

    api = huggingface_hub.HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        version = 1 + max((place.version or 0 for place in versions(repo_id, token)), default=0)
        operations = [
            huggingface_hub.CommitOperationAdd(name, content)
            for name, content in contents(artifact, repo_id, version).items()
        ]
        message = commit_message or f"Schedule, version {version}"
        commit = api.create_commit(repo_id, operations, commit_message=message)
        api.create_branch(repo_id, branch=f"v{version}", revision=commit.oid)
    except ArtifactError:
        raise
    except Exception as error:  # the hub client's errors have no common base
        raise ArtifactError(f"The artifact cannot be pushed to {repo_id}: {one_line(error)}.") from error
    return Pushed(repo_id, version, commit.oid, str(commit.commit_url))


def contents(artifact: Artifact, repo_id: str, version: int) -> dict[str, bytes]:
    """The files of a version, by name."""
    saved = artifact.model_copy(update={"sha256": artifact.content_sha256()})
    plot = frontier_svg(saved)
    files = {
        FILE_NAME: saved.canonical_json().encode(),
        CARD_NAME: model_card(saved, repo_id, version, plotted=plot is not None).encode(),
        **({} if plot is None else {PLOT_NAME: plot}),
    }
    metadata = {
        "version": version,
        "pushed": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "provenance": None if saved.provenance is None else saved.provenance.model_dump(mode="json"),
    }
    return {**files, METADATA_NAME: (json.dumps(metadata, indent=1, sort_keys=True) + "\n").encode()}
