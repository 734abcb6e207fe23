"""Mutated artifacts, profiles and logs: taken as they are, or refused in one sentence; nothing else happens."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from asymrnr.artifact import Artifact, document_sha256
from asymrnr.artifact_io import parse_artifact
from asymrnr.errors import ArtifactError
from tests.artifact.conftest import artifact, document, schedule  # noqa: F401  (fixtures)
from tests.hostile.mutations import mutated, said, scrambled
from tests.profile.test_files import example
from tuner.errors import UsageError
from tuner.profile.profile import Profile
from tuner.run.store import LOG_NAME, MeasurementStore

COUNTS = [500, pytest.param(10_000, marks=pytest.mark.slow)]
LONGEST = 600  # characters of a message


def checked(message: str) -> None:
    assert "\n" not in message
    assert len(message) < LONGEST


def with_valid_checksum(changed: Any) -> Any:
    """What can be signed is; a checksum must not be all that keeps nonsense out."""
    if isinstance(changed, dict):
        try:
            return {**changed, "sha256": document_sha256(changed)}
        except (ValueError, RecursionError, TypeError):
            pass
    return changed


@pytest.mark.parametrize("count", COUNTS)
def test_artifacts(count: int, artifact: Artifact) -> None:  # noqa: F811
    generator, taken = random.Random(1), 0
    original = artifact.model_copy(update={"sha256": artifact.content_sha256()})
    values, content = json.loads(original.canonical_json()), original.canonical_json().encode()
    for number in range(count):
        match number % 4:
            case 0:
                data = scrambled(content, generator)
            case 1:
                data = said(mutated(values, generator))
            case _:
                data = said(with_valid_checksum(mutated(values, generator)))
        try:
            found = parse_artifact(data, "x.json")
        except ArtifactError as error:
            checked(str(error))
        else:
            found.schedule_object().content_hash()
            taken += 1
    assert 0 < taken < count / 2


@pytest.mark.parametrize("count", COUNTS)
def test_profiles(count: int, tmp_path: Path) -> None:
    generator, path, taken = random.Random(2), tmp_path / "p.safetensors", 0
    example().save(path)
    whole = path.read_bytes()
    with safe_open(path, framework="numpy") as file:
        metadata, arrays = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    content = json.loads(metadata["profile"])
    for number in range(count):
        if number % 3 == 0:
            path.write_bytes(scrambled(whole, generator))
        else:
            changed, kept = content, dict(arrays)
            if number % 3 == 1:
                changed = mutated(content, generator)
            else:
                name = generator.choice(sorted(kept))
                kept[name] = spoiled(kept[name], generator)
            text = said(changed).decode("utf-8", "replace")
            save_file(kept, path, metadata={**metadata, "profile": text})
        try:
            found = Profile.load(path)
        except UsageError as error:
            checked(str(error))
        else:
            assert found.steps == found.workload["steps"]
            taken += 1
    assert 0 < taken < count / 2


def spoiled(array: np.ndarray, generator: random.Random) -> np.ndarray:
    """Another shape, type or value."""
    match generator.randrange(4):
        case 0:
            return np.ascontiguousarray(array[:-1])
        case 1:
            return array.astype(np.int8)
        case 2:
            return np.zeros((0, 3))
        case _:
            changed = array.astype(np.float64).copy()
            changed.flat[generator.randrange(changed.size)] = generator.choice([-1.0, np.nan, np.inf])
            return changed


@pytest.mark.parametrize("count", [100, pytest.param(2_000, marks=pytest.mark.slow)])
def test_logs(count: int, tmp_path: Path) -> None:
    generator = random.Random(3)
    with MeasurementStore(tmp_path) as store:
        for n in range(4):
            store.put({"n": n, "of": {"a": [1, 2]}}, {"seconds": 1.5, "rows": [[1, 2], [3]]})
    path = tmp_path / LOG_NAME
    lines = path.read_bytes().splitlines()
    for number in range(count):
        changed = list(lines)
        at = generator.randrange(len(lines))
        if number % 2:
            changed[at] = said(mutated(json.loads(lines[at]), generator))
        else:
            changed[at] = scrambled(lines[at], generator)
        path.write_bytes(b"\n".join(changed) + b"\n")
        with MeasurementStore(tmp_path) as store:
            assert len(store) >= 3
            for warning in store.warnings:
                checked(warning)
            for record in store:
                assert record.key_hash
