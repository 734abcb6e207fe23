"""Saves and loads artifacts; whatever is wrong with a file ends in one `ArtifactError` of one sentence."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import pydantic_core
from pydantic import ValidationError

from asymrnr.artifact import SCHEMA_VERSION, Artifact, canonical, document_sha256
from asymrnr.differences import differences
from asymrnr.durable import write_durably
from asymrnr.errors import ArtifactError, first_of
from asymrnr.migration import OLDEST, migrate
from asymrnr.reading import read_regular

Policy = Literal["strict", "nearest", "off"]

MAX_BYTES = 4 * 1024 * 1024  # one of 60 blocks, 50 steps and a frontier of 16 has half a megabyte


class CertificateWithdrawn(UserWarning):
    """The artifact's certificate does not hold here; its schedule was loaded all the same."""


def save_artifact(artifact: Artifact, path: Path | str) -> Artifact:
    """Write canonical JSON with the hash of the content filled in; the file is there whole or not at all.

    Args:
        artifact: what to save.
        path: file to write; its folder is created where needed.

    Returns:
        The artifact as saved, with its sha256.

    Raises:
        ArtifactError: the file cannot be written.
    """
    path = Path(path)
    saved = artifact.model_copy(update={"sha256": artifact.content_sha256()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, saved.canonical_json().encode())
    except (OSError, ValueError) as error:
        raise ArtifactError(f"The artifact cannot be written to {path}: {_reason(error)}.") from None
    return saved


def load_artifact(
    path: Path | str, policy: Policy = "strict", expected: Mapping[str, Mapping[str, Any]] | None = None
) -> Artifact:
    """Read and check an artifact.

    Args:
        path: file to read.
        policy: what to do when the artifact was made for something else than `expected`: "strict" refuses it,
            "nearest" keeps the schedule, withdraws the certificate and warns; "off" does not compare.
        expected: what is at hand, by section: {"model": {...}, "workload": {...}, "environment": {...}}, each with
            the entries to compare; an entry that the artifact does not record counts as different.

    Raises:
        ArtifactError: the file is missing, damaged, of an unknown version, says something impossible, or (strict)
            was made for something else.
    """
    if policy not in get_args(Policy):
        raise ArtifactError(f"The policy is '{policy}'; choose one of {', '.join(get_args(Policy))}.")
    path = Path(path)
    artifact = parse_artifact(_read(path), path.name)
    if policy == "off" or not expected:
        return artifact
    found = artifact_differences(artifact, expected)
    if not found:
        return artifact
    changes = " ".join(found)
    if policy == "strict":
        raise ArtifactError(f"{path.name} was made for something else: {changes}")
    withdrawn = f"The certificate of {path.name} does not hold here: {changes}"
    warnings.warn(withdrawn, CertificateWithdrawn, stacklevel=2)
    return artifact.model_copy(update={"withdrawn": withdrawn, "sha256": None})


def parse_artifact(content: bytes, name: str) -> Artifact:
    """Check the content of an artifact file.

    Args:
        content: the file's bytes.
        name: how messages call it.

    Returns:
        The artifact; one of an earlier version is brought to the present one, with its hash.

    Raises:
        ArtifactError: it is damaged, of an unknown version, or says something impossible.
    """
    try:
        document = pydantic_core.from_json(content, allow_inf_nan=False)
    except ValueError as error:
        raise ArtifactError(f"{name} is damaged: it is not valid JSON ({error}).") from None
    if not isinstance(document, dict) or "schema_version" not in document:
        raise ArtifactError(f"{name} is not an artifact: it has no schema_version.")
    version = document["schema_version"]
    if type(version) is not int or not OLDEST <= version <= SCHEMA_VERSION:
        raise ArtifactError(
            f"{name} has schema version {version!r:.40}, but this release reads versions {OLDEST} to {SCHEMA_VERSION}; "
            "update asymrnr or tune again."
        )
    try:
        content_hash, migrated = document_sha256(document), migrate(document)
        artifact = Artifact.model_validate_json(canonical(migrated), strict=True)
    except ValidationError as error:
        raise ArtifactError(f"{name} is not a valid artifact: {first_of(error)}.") from None
    except (ValueError, RecursionError) as error:  # for example a lone surrogate, which cannot be hashed
        raise ArtifactError(f"{name} is damaged: {_reason(error)}.") from None
    saved_hash = document.get("sha256")
    if saved_hash is None:
        raise ArtifactError(f"{name} carries no sha256; save it with asymrnr instead of writing it by hand.")
    if saved_hash != content_hash:
        raise ArtifactError(f"{name} was changed after it was saved: its sha256 does not match its content.")
    if migrated is document:
        return artifact
    return artifact.model_copy(update={"sha256": artifact.content_sha256()})


def artifact_differences(artifact: Artifact, expected: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """How an artifact differs from what is at hand, in sentences; see `load_artifact` for `expected`.

    Raises:
        ArtifactError: `expected` has a section that artifacts do not have.
    """
    recorded = {
        "model": artifact.model.model_dump(),
        "workload": artifact.workload.model_dump(),
        "environment": artifact.provenance.environment,
    }
    unknown = expected.keys() - recorded.keys()
    if unknown:
        raise ArtifactError(f"Cannot compare {', '.join(sorted(unknown))}; choose from {', '.join(recorded)}.")
    return [
        f"{section} {sentence}"
        for section, here in expected.items()
        for sentence in differences(recorded[section], here)
    ]


def _read(path: Path) -> bytes:
    try:
        return read_regular(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        raise ArtifactError(f"The artifact {path} cannot be read: {_reason(error)}.") from None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
