"""The main job from preflight to report, with real generations."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from asymrnr.artifact_io import load_artifact
from tests.pipeline.conftest import Finished, SilentProgress
from tuner import pipeline as tune_module
from tuner.commands.report import report_of
from tuner.errors import (
    BudgetExhaustedError,
    EnvironmentMismatchError,
    InfeasibleError,
    NoisyMeasurementError,
    QualityGateError,
    TunerError,
    UsageError,
)
from tuner.models import find_model
from tuner.pipeline import tune
from tuner.profile.profile import Profile
from tuner.run.instrument import Meter
from tuner.run.store import MeasurementStore


def test_it_goes_through_every_stage_in_order(finished: Finished) -> None:
    order = list(dict.fromkeys(finished.stages))
    assert order == ["load", "preflight", "profile", "search", "verify", "certify"]


def test_only_a_gate_can_keep_it_from_a_certificate(finished: Finished) -> None:
    if isinstance(finished.outcome, TunerError):
        assert isinstance(finished.outcome, QualityGateError | NoisyMeasurementError | BudgetExhaustedError)
        assert "the schedule is saved, uncertified" in str(finished.outcome)


def test_the_artifact_holds_evidence_that_agrees_with_itself(finished: Finished) -> None:
    artifact = load_artifact(finished.artifact_path)
    assert artifact.certified == (not isinstance(finished.outcome, TunerError))
    evidence = artifact.evidence
    assert evidence is not None
    ratio = sum(evidence.baseline_seconds) / sum(evidence.tuned_seconds)
    assert evidence.speedup.point == pytest.approx(ratio, rel=1e-6)
    assert evidence.speedup.lower_bound_95 <= evidence.speedup.point
    assert len(evidence.baseline_seconds) == len(evidence.seeds) == 3
    assert {g.name for g in artifact.gates} >= {"speedup", "noise", "applied", "video", "attributes"}
    by_name = {g.name: g for g in artifact.gates}
    assert by_name["applied"].verdict == "PASS"
    assert 0 < evidence.quality["teacher_forced_error"].value < 1
    schedule = artifact.schedule_object()
    assert (schedule.blocks, schedule.steps) == (8, 6)
    assert by_name["applied"].value == sum(np.count_nonzero(t) for t in schedule.rates.values())


def test_the_budget_is_kept_and_accounted_for(finished: Finished) -> None:
    rows = load_artifact(finished.artifact_path).ledger
    assert {row.stage for row in rows} == {"preflight", "profile", "verify", "certify"}
    assert sum(row.ie or 0 for row in rows) <= finished.options.budget


def test_certification_never_sees_what_tuning_saw(finished: Finished) -> None:
    seen: dict[str, set[str]] = {"tuning": set(), "held out": set()}
    seeds: dict[str, set[int]] = {"tuning": set(), "held out": set()}
    for record in MeasurementStore(finished.options.output):
        if record.key["kind"] in ("generation", "forced", "profile"):
            kind = "held out" if record.key["seed"] >= 9_000_000 else "tuning"
            seen[kind].add(record.key["prompt"])
            seeds[kind].add(record.key["seed"])
    assert seen["tuning"]
    assert seen["held out"]
    assert not seen["tuning"] & seen["held out"]
    assert not seeds["tuning"] & seeds["held out"]


def test_the_profile_and_the_pictures_are_there(finished: Finished) -> None:
    folder = finished.options.output
    profile = Profile.load(folder / "profile.safetensors")
    assert profile.similarity["Q"].shape == (8, 6)
    html = (folder / "report.html").read_text()
    assert html.count("data:video/mp4") == 9
    assert html.count("<svg") == len(list((folder / "figures").glob("*.svg"))) == 10


def test_resuming_a_finished_run_measures_nothing_and_ends_the_same(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_artifact(finished.artifact_path)
    monkeypatch.setattr("tuner.run.runner.Runner._call", _forbidden)
    if isinstance(finished.outcome, TunerError):
        with pytest.raises(TunerError, match=re.escape(str(finished.outcome))):
            tune(replace(finished.options, resume=True), SilentProgress())
    else:
        tune(replace(finished.options, resume=True), SilentProgress())
    after = load_artifact(finished.artifact_path)
    assert after.schedule == before.schedule
    assert after.evidence == before.evidence
    assert after.gates == before.gates


def test_the_report_is_written_again_without_a_generation(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    report = finished.options.output / "report.html"
    report.unlink()
    monkeypatch.setattr("tuner.run.runner.Runner._call", _forbidden)
    assert report_of(finished.options.output, SilentProgress()) == report
    assert report.stat().st_size > 100_000


def test_a_killed_run_goes_on_where_it_was(finished: Finished, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at the first generation of verification; the second attempt profiles nothing again."""
    options = replace(finished.options, output=tmp_path, budget=40)
    original = Meter.generation
    monkeypatch.setattr(Meter, "generation", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        tune(options, SilentProgress())
    kept = len(MeasurementStore(tmp_path))
    assert kept > 3
    monkeypatch.setattr(Meter, "generation", original)
    monkeypatch.setattr(tune_module, "verify", _interrupt)
    monkeypatch.setattr("tuner.run.runner.Runner._call", _forbidden)
    with pytest.raises(KeyboardInterrupt):  # at verification: everything before it was read back
        tune(replace(options, resume=True), SilentProgress())
    with pytest.raises(UsageError, match="not finished"):
        report_of(tmp_path, SilentProgress())


def test_a_folder_with_measurements_is_not_overwritten(finished: Finished) -> None:
    with pytest.raises(UsageError, match="--resume"):
        tune(finished.options, SilentProgress())


def test_measurements_of_another_machine_are_refused(quick_model: str, tmp_path) -> None:
    MeasurementStore(tmp_path).put(tune_module.ENVIRONMENT_KEY, {"cpu": "another machine"}, None)
    with pytest.raises(EnvironmentMismatchError, match="measured elsewhere"):
        tune(_options(quick_model, tmp_path, resume=True), SilentProgress())


def test_an_impossible_target_ends_before_any_generation_with_the_best_attainable(quick_model: str, tmp_path) -> None:
    with pytest.raises(InfeasibleError, match=r"at most \d\.\d\dx"):
        tune(_options(quick_model, tmp_path, target_speedup=50.0), SilentProgress())
    frontier = json.loads((tmp_path / "frontier.json").read_text())
    assert 1 < frontier["best_attainable"] < 50
    assert {record.key["kind"] for record in MeasurementStore(tmp_path)}.isdisjoint({"generation", "profile"})


def test_a_budget_too_small_for_the_certificate_is_refused_early(quick_model: str, tmp_path) -> None:
    with pytest.raises(BudgetExhaustedError, match="raise --budget"):
        tune(_options(quick_model, tmp_path, budget=3.0), SilentProgress())
    assert "profile" not in {record.key["kind"] for record in MeasurementStore(tmp_path)}


@pytest.mark.parametrize("change", [{"model": "nope"}, {"target_speedup": 1.0}, {"target_speedup": float("nan")}])
def test_bad_options_are_refused_before_anything_is_loaded(change: dict, tmp_path) -> None:
    with pytest.raises(UsageError):
        tune(_options(**{"model": "tiny-cogvideox", "output": tmp_path, **change}), SilentProgress())
    with pytest.raises(UsageError, match="choose one of"):
        find_model("nope")


def _options(model: str, output, **changes: object) -> tune_module.TuneOptions:
    return tune_module.TuneOptions(
        **{"model": model, "output": output, "target_speedup": 1.05, "trials": 20, **changes}
    )


def _interrupt(*args: object, **kwargs: object) -> None:
    raise KeyboardInterrupt


def _forbidden(*args: object, **kwargs: object) -> None:
    raise AssertionError("a generation was started")
