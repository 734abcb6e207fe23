from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from pydantic import ValidationError

import asymrnr.artifact as artifact_module
from asymrnr.artifact import Artifact, json_schema
from asymrnr.errors import ScheduleError
from asymrnr.schedule import Schedule
from asymrnr.sections import ScheduleSection

SCHEMA = Path(artifact_module.__file__).with_name("artifact.schema.json")


def test_the_checked_in_schema_is_the_generated_one() -> None:
    # On failure: python -c "import json; from asymrnr.artifact import json_schema;
    #   print(json.dumps(json_schema(), indent=2, sort_keys=True))" > asymrnr/artifact.schema.json
    assert json.loads(SCHEMA.read_text()) == json.loads(json.dumps(json_schema()))


def test_the_schema_is_valid_and_accepts_what_is_saved(artifact: Artifact) -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    saved = json.loads(artifact.canonical_json())
    validator.validate(saved)
    saved["schedule"]["rates"]["Q"][0][0] = 1.0
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(saved)


def test_a_schedule_comes_back_unchanged(schedule: Schedule) -> None:
    back = ScheduleSection.from_schedule(schedule).schedule()
    assert back.content_hash() == schedule.content_hash()
    assert back.form == schedule.form == "threshold"
    assert back.thresholds == schedule.thresholds
    for feature, table in schedule.rates.items():
        np.testing.assert_array_equal(back.rates[feature], table)
    for name in ("stride", "cache_step", "timesteps", "metric", "reduction", "coverage", "seed"):
        assert getattr(back, name) == getattr(schedule, name)


def test_a_match_radius_is_kept(schedule: Schedule) -> None:
    near = replace(schedule, match_radius=1)
    assert near.content_hash() != schedule.content_hash()
    section = ScheduleSection.from_schedule(near)
    assert section.model_dump()["match_radius"] == 1
    assert section.schedule().content_hash() == near.content_hash()


def test_storage_in_8_bits_is_kept(schedule: Schedule) -> None:
    small = replace(schedule, storage="int8")
    assert small.content_hash() != schedule.content_hash()
    section = ScheduleSection.from_schedule(small)
    assert section.model_dump(mode="json")["storage"] == "int8"
    assert section.schedule().content_hash() == small.content_hash()
    with pytest.raises(ScheduleError, match="storage is '4 bits'; choose one of model, int8"):
        replace(schedule, storage="4 bits")  # type: ignore[arg-type]


def test_actions_are_kept(document: dict[str, Any]) -> None:
    rates = {"Q": np.array([[0, 0.5, 0], [0.3, 0, 0.2]])}
    acting = Schedule(rates=rates, actions=np.array([[1, 2, 3], [0, 1, 2]]))
    section = ScheduleSection.from_schedule(acting)
    assert section.model_dump(mode="json")["actions"] == [[1, 2, 3], [0, 1, 2]]
    back = section.schedule()
    assert back.content_hash() == acting.content_hash()
    np.testing.assert_array_equal(back.actions, acting.actions)
    document["schedule"] = section.model_dump(mode="json")
    saved = json.loads(Artifact.model_validate(document).canonical_json())
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    validator.validate(saved)
    assert Artifact.model_validate(saved).schedule_object().content_hash() == acting.content_hash()
    saved["schedule"]["actions"][0][0] = 4
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(saved)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([[1, 2, 4], [0, 1, 2]], "less than or equal to 3"),
        ([[1, 2, 3], [0, 1]], "Actions have rows of different lengths"),
        ([[1, 2, 3]], r"Actions have shape \(1, 3\)"),
        ([[2, 1, 3], [0, 1, 2]], "Block 0 at step 1 refreshes, which is done in full, but has a rate"),
        ([[1, 1.5, 3], [0, 1, 2]], "valid integer"),
    ],
)
def test_malformed_actions_are_refused(actions: Any, message: str) -> None:
    section = ScheduleSection.from_schedule(Schedule(rates={"Q": np.zeros((2, 3))})).model_dump(mode="json")
    section["rates"] = {"Q": [[0, 0.5, 0], [0.3, 0, 0.2]]}
    with pytest.raises(ValidationError, match=message):
        ScheduleSection.model_validate({**section, "actions": actions})


def test_rates_are_rounded_without_changing_what_the_schedule_does() -> None:
    schedule = Schedule(rates={"V": np.array([[1 / 3, 0.1 + 0.2]])})
    section = ScheduleSection.from_schedule(schedule)
    assert section.rates == {"V": ((0.333333, 0.3),)}
    assert section.schedule().content_hash() == schedule.content_hash()


def test_a_rate_that_rounds_to_one_is_refused() -> None:
    with pytest.raises(ValidationError, match="less than 1"):
        ScheduleSection.from_schedule(Schedule(rates={"V": np.array([[0.9999999]])}))


def test_the_document_does_not_depend_on_the_order_of_entries(document: dict[str, Any], artifact: Artifact) -> None:
    turned = {name: document[name] for name in reversed(document)}
    turned["schedule"] = {name: document["schedule"][name] for name in reversed(document["schedule"])}
    other = Artifact.model_validate(turned)
    assert other.canonical_json() == artifact.canonical_json()
    assert other.content_sha256() == artifact.content_sha256()


def test_the_hash_covers_everything_but_itself(artifact: Artifact) -> None:
    before = artifact.content_sha256()
    assert artifact.model_copy(update={"sha256": "0" * 64}).content_sha256() == before
    for section in ("model", "workload", "schedule", "evidence", "gates", "provenance", "frontier"):
        assert artifact.model_copy(update={section: None}).content_sha256() != before


@pytest.mark.parametrize(
    ("change", "certified"),
    [
        ({}, True),
        ({"evidence": None}, False),
        ({"gates": []}, False),
        ({"gates": [{"name": "a", "verdict": "PASS"}, {"name": "b", "verdict": "FAIL"}]}, False),
        ({"gates": [{"name": "a", "verdict": "PASS"}, {"name": "b", "verdict": "WARN"}]}, True),
        ({"withdrawn": "other hardware"}, False),
    ],
)
def test_certified_needs_evidence_and_every_gate(
    document: dict[str, Any], change: dict[str, Any], certified: bool
) -> None:
    assert Artifact.model_validate({**document, **change}).certified is certified


def test_a_schedule_from_a_paper_needs_no_evidence(document: dict[str, Any]) -> None:
    kept = {name: document[name] for name in ("model", "workload", "schedule")}
    plain = Artifact.model_validate({**kept, "provenance": {"source": "ICML 2025, Table 8"}})
    assert not plain.certified
    assert plain.schedule_object().steps == 3


def test_artifacts_cannot_be_changed(artifact: Artifact) -> None:
    with pytest.raises(ValidationError):
        artifact.withdrawn = None
