"""Saving, loading, and what happens with files that somebody or something has damaged."""

from __future__ import annotations

import copy
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from asymrnr.artifact import SCHEMA_VERSION, Artifact
from asymrnr.artifact_io import MAX_BYTES, CertificateWithdrawn, load_artifact, parse_artifact, save_artifact
from asymrnr.errors import ArtifactError


@pytest.fixture
def path(artifact: Artifact, tmp_path: Path) -> Path:
    save_artifact(artifact, tmp_path / "out" / "x1.30.json")
    return tmp_path / "out" / "x1.30.json"


def refused(content: bytes) -> str:
    """The message of the error that this content must end in: one sentence on one line."""
    with pytest.raises(ArtifactError) as caught:
        parse_artifact(content, "x.json")
    message = str(caught.value)
    assert "x.json" in message
    assert "\n" not in message
    assert message.endswith(".")
    return message


def signed(document: dict[str, Any]) -> bytes:
    """The document with a hash of the right form; a check that looks at the content must refuse it first."""
    return json.dumps({**document, "sha256": "0" * 64}).encode()


def test_a_saved_artifact_comes_back_with_its_hash(artifact: Artifact, path: Path) -> None:
    loaded = load_artifact(path)
    assert loaded.sha256 == artifact.content_sha256()
    assert loaded.certified
    assert loaded.model_copy(update={"sha256": None}) == artifact
    content = path.read_bytes()
    assert save_artifact(loaded, path) == loaded
    assert path.read_bytes() == content
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_file_cut_anywhere_is_refused(path: Path) -> None:
    content = path.read_bytes()
    for length in range(0, len(content) - 1, 7):  # all but the last newline
        refused(content[:length])


def test_a_file_with_any_byte_changed_is_refused_or_says_the_same(path: Path) -> None:
    content = path.read_bytes()
    original = parse_artifact(content, "x.json")
    generator = random.Random(0)
    refusals = 0
    for position in range(0, len(content), 3):
        changed = bytearray(content)
        changed[position] = generator.choice([value for value in range(256) if value != content[position]])
        try:
            assert parse_artifact(bytes(changed), "x.json") == original
        except ArtifactError:
            refusals += 1
    assert refusals > len(content) / 3 * 0.95


def test_a_document_with_any_value_replaced_is_refused(artifact: Artifact, path: Path) -> None:
    original = json.loads(path.read_bytes())
    places = list(_places(original, ()))
    assert len(places) > 60
    for place in places:
        for value in (None, "x", -1, 1e9, True, [], {}, [[0.5]]):
            changed = copy.deepcopy(original)
            inner = changed
            for part in place[:-1]:
                inner = inner[part]
            if inner[place[-1]] == value and type(inner[place[-1]]) is type(value):
                continue
            inner[place[-1]] = value
            refused(json.dumps(changed).encode())


def _places(value: Any, place: tuple[Any, ...]) -> Any:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in entries:
        yield (*place, name)
        yield from _places(inner, (*place, name))


@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"3", b"\xff\xfe{}", b"\0" * 50, b"[" * 100_000, b'{"a":' * 100_000, b'"\\ud800"', b"{}x"],
)
def test_what_is_no_artifact_at_all_is_refused(content: bytes) -> None:
    refused(content)


@pytest.mark.parametrize("version", [0, 5, 99, -1, 1.0, "1", True, None, [1], "9" * 500])
def test_unknown_schema_versions_are_refused(artifact: Artifact, version: Any) -> None:
    message = refused(json.dumps({**artifact.model_dump(mode="json"), "schema_version": version}).encode())
    assert "schema version" in message
    assert len(message) < 200


def test_a_missing_schema_version_is_refused(document: dict[str, Any]) -> None:
    assert "no schema_version" in refused(signed(document))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(path: Path, number: str) -> None:
    content = path.read_bytes()
    assert content.count(b'"relative_mad":0.01') == 1
    refused(content.replace(b'"relative_mad":0.01', f'"relative_mad":{number}'.encode()))


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ([[0.1, 0.2, 1.0], [0.0, 0.0, 0.0]], "less than 1"),
        ([[0.1, 0.2, -0.1], [0.0, 0.0, 0.0]], "greater than or equal to 0"),
        ([[0.1, 0.2, "0.5"], [0.0, 0.0, 0.0]], "valid number"),
        ([[0.1, 0.2, None], [0.0, 0.0, 0.0]], "valid number"),
        ([[0.1, 0.2, 0.3], [0.0, 0.0]], "different lengths"),
        ([[0.1, 0.2, 0.3]], "differ in shape"),
        ([], "shape"),
        ([[], []], "shape"),
    ],
)
def test_rates_that_no_schedule_can_have_are_refused(artifact: Artifact, rates: Any, message: str) -> None:
    document = artifact.model_dump(mode="json")
    document["schedule"]["rates"]["Q"] = rates
    assert message in refused(signed(document))


def test_tables_that_do_not_fit_the_model_or_workload_are_refused(artifact: Artifact) -> None:
    document = artifact.model_dump(mode="json")
    assert "2 rows for a model of 3 blocks" in refused(
        signed({**document, "model": {**document["model"], "blocks": 3}})
    )
    workload = {**document["workload"], "steps": 4}
    assert "3 columns for a workload of 4 steps" in refused(signed({**document, "workload": workload}))


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("schedule", {"stride": [2, 2]}),
        ("schedule", {"stride": [0, 2, 2]}),
        ("schedule", {"cache_step": 0}),
        ("schedule", {"metric": "manhattan"}),
        ("schedule", {"form": "free"}),
        ("schedule", {"thresholds": {}}),
        ("schedule", {"thresholds": {"Q": {"1.5": 0.2}}}),
        ("schedule", {"thresholds": {"K": {"0.5": 0.2}}}),
        ("schedule", {"timesteps": [1.0]}),
        ("schedule", {"rates": {}}),
        ("schedule", {"rates": {"K": [[0.1, 0.1, 0.1]] * 2}}),
        ("schedule", {"unknown": 1}),
        ("evidence", {"tuned_seconds": []}),
        ("evidence", {"baseline_seconds": [0.0]}),
        ("evidence", {"prompts_sha256": "abc"}),
        ("evidence", {"quality": {"psnr": {"value": 3.0, "low": 4.0, "high": 2.0}}}),
        ("workload", {"height": 64.5}),
        ("model", {"repo": ""}),
    ],
)
def test_impossible_entries_are_refused(artifact: Artifact, section: str, change: dict[str, Any]) -> None:
    document = artifact.model_dump(mode="json")
    document[section] = {**document[section], **change}
    assert f"valid artifact: {section}" in refused(signed(document))


def test_a_wrong_or_missing_hash_is_refused(artifact: Artifact) -> None:
    document = artifact.model_dump(mode="json")
    assert "was changed after it was saved" in refused(signed(document))
    assert "no sha256" in refused(json.dumps(document).encode())


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="No such file"):
        load_artifact(tmp_path / "none.json")
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_artifact(tmp_path)
    with pytest.raises(ArtifactError, match="cannot be read"):
        load_artifact("a\0b.json")
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(ArtifactError, match="right file"):
        load_artifact(tmp_path / "large.json")


def test_files_that_cannot_be_written_are_refused(artifact: Artifact, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written"):
        save_artifact(artifact, tmp_path / "file" / "x.json")


HERE = {
    "model": {"transformer": "CogVideoXTransformer3DModel", "blocks": 2},
    "workload": {"frames": 12, "steps": 3, "dtype": "float32"},
    "environment": {"threads": 2, "gpu": None},
}
ELSEWHERE = {**HERE, "workload": {"frames": 12, "steps": 5}, "environment": {"threads": 8, "gpu": "H200"}}
CHANGES = (
    "workload steps was 3 and is 5 here. environment gpu was not recorded and is 'H200' here. "
    "environment threads was 2 and is 8 here."
)


@pytest.mark.parametrize("policy", ["strict", "nearest", "off"])
def test_where_it_was_made_for_it_keeps_its_certificate(path: Path, policy: Any) -> None:
    assert load_artifact(path, policy, HERE).certified
    assert load_artifact(path, policy).certified


def test_strict_refuses_an_artifact_made_for_something_else(path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        load_artifact(path, "strict", ELSEWHERE)
    assert str(caught.value) == f"x1.30.json was made for something else: {CHANGES}"


def test_nearest_keeps_the_schedule_and_withdraws_the_certificate(path: Path, tmp_path: Path) -> None:
    with pytest.warns(CertificateWithdrawn, match="steps was 3 and is 5 here"):
        loaded = load_artifact(path, "nearest", ELSEWHERE)
    assert not loaded.certified
    assert loaded.withdrawn == f"The certificate of x1.30.json does not hold here: {CHANGES}"
    assert loaded.schedule_object().content_hash() == load_artifact(path).schedule_object().content_hash()
    save_artifact(loaded, tmp_path / "again.json")
    assert not load_artifact(tmp_path / "again.json", "strict", HERE).certified


def test_off_does_not_compare(path: Path) -> None:
    assert load_artifact(path, "off", ELSEWHERE).certified


def test_unknown_policies_and_sections_are_refused(path: Path) -> None:
    with pytest.raises(ArtifactError, match="policy is 'loose'"):
        load_artifact(path, "loose")  # type: ignore[arg-type]
    with pytest.raises(ArtifactError, match="Cannot compare hardware"):
        load_artifact(path, "strict", {"hardware": {}})


def test_devices_pipes_and_folders_are_refused_at_once(path: Path, tmp_path: Path) -> None:
    (tmp_path / "endless.json").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    for name in ("endless.json", "pipe.json", "folder.json"):
        with pytest.raises(ArtifactError, match=r"cannot be read: (it is no regular file|Is a directory)\.$"):
            load_artifact(tmp_path / name)
    (tmp_path / "link.json").symlink_to(path)
    assert load_artifact(tmp_path / "link.json") == load_artifact(path)


def test_messages_stay_short_whatever_a_file_says(document: dict[str, Any]) -> None:
    assert len(refused(signed({**document, "schema_version": SCHEMA_VERSION, "k" * 1_000_000: 1}))) < 600
