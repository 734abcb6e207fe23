"""Shares artifacts over the Hugging Face hub: one JSON file in a model repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asymrnr.artifact import Artifact
from asymrnr.artifact_io import Policy, load_artifact
from asymrnr.errors import ArtifactError
from asymrnr.schedule import Schedule

FILE_NAME = "asymrnr_schedule.json"


def from_pretrained(hub_id_or_path: str | Path, *, revision: str | None = None, token: str | None = None) -> Schedule:
    """The schedule in an artifact file, a folder that holds one, or a hub repository.

    Args:
        hub_id_or_path: file, folder with `asymrnr_schedule.json`, or "owner/name" on the hub.
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
        path = _download(hub_id_or_path, revision, token)
    return load_artifact(path, policy, expected)


def push_to_hub(
    artifact: Artifact,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    commit_message: str = "Upload AsymRnR schedule",
) -> str:
    """Upload an artifact, creating the model repository where needed.

    Args:
        artifact: what to share; its sha256 is filled in.
        repo_id: "owner/name" on the hub.
        private: whether a new repository is private; None leaves it to the hub's default.
        token: hub access token with write permission; None uses the stored login.
        commit_message: of the upload.

    Returns:
        Address of the commit.

    Raises:
        ArtifactError: the hub refuses or cannot be reached.
    """
    import huggingface_hub

    saved = artifact.model_copy(update={"sha256": artifact.content_sha256()})
    api = huggingface_hub.HfApi(token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        commit = api.upload_file(
            path_or_fileobj=saved.canonical_json().encode(),
            path_in_repo=FILE_NAME,
            repo_id=repo_id,
            commit_message=commit_message,
        )
    except Exception as error:  # the hub client's errors have no common base
        raise ArtifactError(f"The artifact cannot be pushed to {repo_id}: {_one_line(error)}.") from error
    return str(commit.commit_url)


def _download(repo_id: str, revision: str | None, token: str | None) -> Path:
    import huggingface_hub

    try:
        return Path(huggingface_hub.hf_hub_download(repo_id, FILE_NAME, revision=revision, token=token))
    except Exception as error:  # the hub client's errors have no common base
        raise ArtifactError(
            f"'{repo_id}' is no file here, and {FILE_NAME} cannot be had from the hub: {_one_line(error)}."
        ) from error


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")
