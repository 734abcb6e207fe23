"""Artifacts that hold schedules for several speeds, and those of the first version."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

import asymrnr.find as find
from asymrnr.artifact import SCHEMA_VERSION, Artifact, document_sha256
from asymrnr.artifact_io import load_artifact, parse_artifact, save_artifact
from asymrnr.errors import ArtifactError
from asymrnr.shipped import NotCertified, load, load_shipped

FORMAT_1 = Path(__file__).with_name("version-1.json")  # as the first release saved it


def with_points(document: dict[str, Any]) -> Artifact:
    """Certified for 1.3x and 1.8x, predicted for 1.1x and 1.5x; the destinations' seed tells them apart."""
    points = []
    for target, seed, certified in ((1.1, 11, False), (1.5, 15, False), (1.8, 18, True)):
        kept = ("prediction", "evidence", "gates") if certified else ("prediction",)
        point = {name: document[name] for name in kept}
        points.append({**point, "target": target, "schedule": {**document["schedule"], "seed": seed}})
    own = {**document["schedule"], "seed": 13}
    return Artifact.model_validate({**document, "target": 1.3, "schedule": own, "frontier": points})


@pytest.fixture
def several(document: dict[str, Any]) -> Artifact:
    return with_points(document)


@pytest.mark.parametrize(
    ("speedup", "target", "certified"),
    [(1.0, 1.1, False), (1.1, 1.1, False), (1.11, 1.3, True), (1.4, 1.5, False), (1.8, 1.8, True)],
)
def test_the_slowest_schedule_that_is_fast_enough_is_picked(
    several: Artifact, speedup: float, target: float, certified: bool
) -> None:
    found = several.at(speedup)
    assert (found.target, found.certified) == (target, certified)
    assert found.schedule.seed == round(10 * target)
    assert [point.target for point in found.points()] == [1.1, 1.3, 1.5, 1.8]
    assert found.at(1.3).schedule == several.schedule


def test_what_is_faster_than_all_is_refused_with_what_there_is(several: Artifact, document: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match=r"for 2x: the fastest one of tiny-cogvideox is for 1\.8x"):
        several.at(2)
    with pytest.raises(ArtifactError, match="there is none"):
        Artifact.model_validate(document).at(1.1)


def test_another_point_is_saved_with_its_own_hash(several: Artifact, tmp_path: Path) -> None:
    first = save_artifact(several, tmp_path / "a.json")
    other = save_artifact(first.at(1.8), tmp_path / "b.json")
    assert other.sha256 != first.sha256
    assert load_artifact(tmp_path / "b.json").target == 1.8


def test_every_schedule_of_an_artifact_must_fit_its_model(several: Artifact) -> None:
    document = several.model_dump(mode="json")
    document["frontier"][0]["schedule"]["rates"]["Q"].append([0, 0, 0])
    document["frontier"][0]["schedule"]["rates"]["V"].append([0, 0, 0])
    with pytest.raises(ValidationError, match="3 rows for a model of 2 blocks"):
        Artifact.model_validate(document)


def test_load_picks_by_speed_and_says_what_is_only_predicted(
    several: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_artifact(several, tmp_path / "tiny-cogvideox" / "3-steps.json")
    monkeypatch.setattr(find, "profiles_folder", lambda: tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load("tiny-cogvideox").seed == 13
        assert load("tiny-cogvideox", speedup=1.7).seed == 18
        assert load(tmp_path / "tiny-cogvideox" / "3-steps.json", speedup=1.7).seed == 18
    with pytest.warns(
        NotCertified, match=r"--model tiny-cogvideox --steps 3 --target-speedup 1\.5` certifies"
    ) as caught:
        assert load("tiny-cogvideox", "3-steps", speedup=1.4).seed == 15
    assert caught[0].filename == __file__
    with pytest.raises(ArtifactError, match="fastest"):
        load_shipped("tiny-cogvideox", speedup=3)


def test_version_1_is_read_and_saved_as_the_present_one(tmp_path: Path) -> None:
    before = json.loads(FORMAT_1.read_text())
    found = load_artifact(FORMAT_1)
    assert before["schema_version"] == 1
    assert found.certified
    assert (found.target, found.frontier) == (1.3, ())
    np.testing.assert_array_equal(found.schedule_object().rates["Q"], before["schedule"]["rates"]["Q"])
    saved = save_artifact(found, tmp_path / "x.json")
    assert saved == found == load_artifact(tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text())["schema_version"] == SCHEMA_VERSION


def test_version_3_knows_of_nothing_done_to_the_weights(tmp_path: Path, artifact: Artifact) -> None:
    document = artifact.model_dump(mode="json")
    for name in ("adapters", "quantization", "offload", "parallel"):
        del document["workload"][name]
    document["schema_version"] = 3
    content = json.dumps({**document, "sha256": document_sha256(document)}).encode()
    found = parse_artifact(content, "x.json")
    assert found.workload == artifact.workload
    assert found.sha256 == artifact.content_sha256()


def test_version_2_keeps_tensors_as_they_are(tmp_path: Path, artifact: Artifact) -> None:
    document = artifact.model_dump(mode="json")
    del document["schedule"]["storage"]
    document["schema_version"] = 2
    content = json.dumps({**document, "sha256": document_sha256(document)}).encode()
    found = parse_artifact(content, "x.json")
    assert found.schedule_object().storage == "model"
    assert found.sha256 == artifact.content_sha256()
    saved = save_artifact(found, tmp_path / "x.json")
    assert saved == load_artifact(tmp_path / "x.json")


def test_what_was_changed_in_version_1_is_refused() -> None:
    before = json.loads(FORMAT_1.read_text())
    changed = copy.deepcopy(before)
    changed["schedule"]["seed"] += 1
    with pytest.raises(ArtifactError, match="changed after it was saved"):
        parse_artifact(json.dumps(changed).encode(), "x.json")
    changed["frontier"] = [3]  # version 1 had none
    changed["sha256"] = document_sha256(changed)
    with pytest.raises(ArtifactError, match="not a valid artifact: frontier"):
        parse_artifact(json.dumps(changed).encode(), "x.json")


@pytest.mark.parametrize("gates", [None, 3, [3], [{"name": "speedup", "threshold": "x"}]])
def test_damaged_gates_of_version_1_are_refused(gates: Any) -> None:
    changed = {**json.loads(FORMAT_1.read_text()), "gates": gates}
    changed["sha256"] = document_sha256(changed)
    with pytest.raises(ArtifactError, match=r"x\.json is not a valid artifact: "):
        parse_artifact(json.dumps(changed).encode(), "x.json")


def test_version_1_without_a_verdict_on_speed_has_no_target() -> None:
    changed = {**json.loads(FORMAT_1.read_text()), "gates": []}
    changed["sha256"] = document_sha256(changed)
    assert parse_artifact(json.dumps(changed).encode(), "x.json").target is None
