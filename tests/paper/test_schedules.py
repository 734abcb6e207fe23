"""What --schedule and --similarity take, and how the command refuses the rest."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import tuner.cli
from asymrnr.artifact import Artifact
from asymrnr.artifact_io import save_artifact
from asymrnr.errors import ScheduleError
from asymrnr.schedule import Schedule
from asymrnr.sections import ModelSection, ScheduleSection, WorkloadSection
from tuner.commands.flops import flops_report
from tuner.errors import UsageError
from tuner.paper.architectures import ARCHITECTURES
from tuner.paper.schedules import read_schedule, read_similarity, resolve_rule

MODEL = "cogvideox-2b"
ARCHITECTURE = ARCHITECTURES[MODEL]
SHAPE = (30, 50)
RULE = {"Q": {"0.6": 0.4, "0.7": 0.8}, "V": {"0.8": 0.3}}


def tiers(path: Path, shape: tuple[int, int] = SHAPE, dtype: Any = np.int64, top: int = 9) -> Path:
    """A similarity table whose columns go from tier 0 to the top."""
    row = np.linspace(0, top, shape[1]).astype(dtype)
    save_file({key: np.tile(row, (shape[0], 1)) for key in "hqkv"}, path)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return tiers(tmp_path / "table.safetensors")


def flops(schedule: str | None, similarity: Path | None = None, model: str = MODEL) -> dict[str, Any]:
    return json.loads(flops_report(model, similarity, schedule, as_json=True))


def test_without_a_schedule_it_is_the_baseline(table: Path) -> None:
    count = flops(None)
    assert count["flops"] == count["baseline_flops"] > 1e16
    assert count["matching_flops"] == 0
    assert flops(None, table) == count


def test_inline_json_a_file_and_an_artifact_count_the_same(table: Path, tmp_path: Path) -> None:
    expected = flops(json.dumps(RULE), table)
    assert expected["flops"] < expected["baseline_flops"]
    rule = tmp_path / "rule.json"
    rule.write_text(json.dumps(RULE))
    assert flops(str(rule), table) == expected
    schedule = resolve_rule(RULE, ARCHITECTURE, read_similarity(table, ARCHITECTURE))
    artifact = Artifact(
        model=ModelSection(repo=MODEL, transformer="CogVideoXTransformer3DModel", blocks=30),
        workload=WorkloadSection(frames=49, height=480, width=720, steps=50),
        schedule=ScheduleSection.from_schedule(schedule),
    )
    save_artifact(artifact, tmp_path / "artifact.json")
    assert flops(str(tmp_path / "artifact.json")) == expected


def test_rules_take_the_papers_settings_unless_they_give_their_own(table: Path) -> None:
    similarity = read_similarity(table, ARCHITECTURE)
    schedule = resolve_rule(RULE, ARCHITECTURE, similarity)
    assert (schedule.stride, schedule.cache_step, schedule.coverage) == ((2, 2, 2), 5, "paper")
    assert schedule.form == "threshold"
    for stride in ([1, 2, 3], "1x2x3"):
        own = resolve_rule({**RULE, "stride": stride, "cache_step": 2, "coverage": "full"}, ARCHITECTURE, similarity)
        assert (own.stride, own.cache_step, own.coverage) == ((1, 2, 3), 2, "full")


def test_tiers_are_thresholds(table: Path) -> None:
    similarity = read_similarity(table, ARCHITECTURE)
    assert set(np.unique(similarity["Q"]).round(9)) == {i / 10 for i in range(10)}
    rates = resolve_rule({"Q": {"0.6": 0.4, "0.7": 0.8}}, ARCHITECTURE, similarity).rates["Q"]
    reached = (similarity["Q"] * 10).round()
    assert np.array_equal(rates, np.select([reached >= 7, reached == 6], [0.8, 0.4], 0.0))


@pytest.mark.parametrize("rule", [{"V": 0.3}, {"V": {"0": 0.3}}, {"V": {"0.0": 0.3}}])
def test_unscheduled_rates_need_no_similarity(rule: dict[str, Any]) -> None:
    assert np.all(resolve_rule(rule, ARCHITECTURE, None).rates["V"] == 0.3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(RULE), "give --similarity"),
        ("{", "is not valid JSON"),
        ("missing.json", "cannot be read: No such file"),
        ('{"Q": {"high": 0.4}}', "must be numbers"),
        ('{"Q": {"1.5": 0.4}}', "thresholds lie in"),
        ('{"Q": {"0": 1.0}}', "rates in"),
        ('{"Q": {"0": "0.4"}}', "rates in"),
        ('{"Q": {"nan": 0.4}}', "thresholds lie in"),
        ('{"Q": 0.4, "X": 0.4}', "an entry 'X'"),
        ('{"Q": {}}', "no threshold"),
        ('{"Q": 0.4, "stride": [2, 2.5, 2]}', "The stride is"),
        ('{"Q": 0.4, "stride": 2}', "The stride is"),
        ('{"Q": 0.4, "stride": "2x2"}', "The stride is"),
    ],
)
def test_what_cannot_be_understood_is_refused_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as raised:
        read_schedule(text, MODEL, ARCHITECTURE, None)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text", ["{}", '{"Q": 0.4, "stride": [2, 2]}', '{"Q": 0.4, "cache_step": 0}', '{"Q": 0.4, "metric": "taxi"}']
)
def test_impossible_schedules_are_refused(text: str) -> None:
    with pytest.raises(ScheduleError):
        read_schedule(text, MODEL, ARCHITECTURE, None)


def test_rates_that_would_drop_destinations_are_refused() -> None:
    with pytest.raises(ScheduleError, match="out of reach"):
        flops('{"Q": 0.95}')


def test_a_list_is_no_schedule(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text("[1]")
    with pytest.raises(UsageError, match="must be a JSON object"):
        flops(str(path))


def test_schedules_and_tables_of_other_models_are_refused(tmp_path: Path, table: Path) -> None:
    other = Schedule(rates={"Q": np.full((48, 30), 0.5)})
    artifact = Artifact(
        model=ModelSection(repo="mochi", transformer="MochiTransformer3DModel", blocks=48),
        workload=WorkloadSection(frames=85, height=480, width=848, steps=30),
        schedule=ScheduleSection.from_schedule(other),
    )
    save_artifact(artifact, tmp_path / "mochi.json")
    with pytest.raises(UsageError, match="48 blocks and 30 steps, but the model has 30 blocks and takes 50 steps"):
        flops(str(tmp_path / "mochi.json"))
    with pytest.raises(UsageError, match=r"shape \(30, 50\), but the model has 48 blocks"):
        flops(None, table, "mochi")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top": 10}, "0 to 10, not 0 to 9"),
        ({"dtype": np.float32}, "no integers for 'h'"),
        ({"shape": (3, 4)}, "shape"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        read_similarity(tiers(tmp_path / "other.safetensors", **settings), ARCHITECTURE)


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.safetensors"
    text.write_text("no table")
    for path in (text, tmp_path / "missing.safetensors", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            read_similarity(path, ARCHITECTURE)


@pytest.mark.parametrize(
    ("arguments", "code", "output"),
    [
        (["--model", MODEL, "--json"], 0, '"baseline_flops": 11998441635840000'),
        (["--model", MODEL, "--schedule", '{"V": 0.3}'], 0, "matching"),
        (["--model", "sora"], 2, "cogvideox-2b, cogvideox-5b, mochi, hunyuanvideo, fastvideo-hunyuan"),
        (["--model", MODEL, "--schedule", '{"Q": 0.95}'], 2, "out of reach"),
        (["--model", MODEL, "--schedule", "no-such-profile"], 2, "error:"),
    ],
)
def test_the_command(
    arguments: list[str], code: int, output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["asymrnr-tune", "flops", *arguments])
    with pytest.raises(SystemExit) as raised:
        tuner.cli.main()
    captured = capsys.readouterr()
    assert raised.value.code == code
    assert output in (captured.err if code else captured.out)
