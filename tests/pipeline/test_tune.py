"""The main job from preflight to report, with real generations."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import suppress
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from asymrnr.artifact_io import load_artifact
from tests.pipeline.conftest import STEPS, TARGET, Finished, SilentProgress
from tuner import opening, proof
from tuner.commands.report import report_of
from tuner.context import TuneOptions
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
from tuner.run.job import Job, Told
from tuner.run.store import MeasurementStore
from tuner.stages.certify import FIRST_SEED
from tuner.work.worker import Worker


def test_it_goes_through_every_stage_in_order(finished: Finished) -> None:
    order = list(dict.fromkeys(finished.stages))
    assert order == ["load", "forecast", "preflight", "profile", "search", "verify", "noise floor", "certify"]


def test_only_a_gate_can_keep_it_from_a_certificate(finished: Finished) -> None:
    if isinstance(finished.outcome, TunerError):
        assert isinstance(finished.outcome, QualityGateError | NoisyMeasurementError | BudgetExhaustedError)
        assert f"The best schedule so far is saved, uncertified, as {finished.artifact_path}" in str(finished.outcome)


def test_the_artifact_holds_evidence_that_agrees_with_itself(finished: Finished) -> None:
    artifact = load_artifact(finished.artifact_path)
    assert artifact.certified == (not isinstance(finished.outcome, TunerError))
    evidence = artifact.evidence
    assert evidence is not None
    assert evidence.pair_speedups is not None
    n = len(evidence.pair_speedups)
    assert n in (4, 6, 8)
    assert n == len(evidence.baseline_seconds) == len(evidence.tuned_seconds) == len(set(evidence.seeds))
    assert evidence.speedup.point == pytest.approx(np.exp(np.log(evidence.pair_speedups).mean()))
    assert evidence.speedup.lower_bound_95 is not None
    assert evidence.speedup.lower_bound_95 < evidence.speedup.point
    assert evidence.modes == ("lock-step",)
    by_name = {g.name: g for g in artifact.gates}
    assert by_name.keys() >= {"speedup", "noise", "applied", "video", "attributes", "flicker", "sharpness"}
    assert by_name["applied"].verdict == "PASS"
    schedule = artifact.schedule_object()
    assert (schedule.blocks, schedule.steps) == (8, STEPS)
    assert by_name["applied"].value == schedule.planned_sites()  # broadcasting is applied, too


def test_the_budget_is_kept_and_accounted_for(finished: Finished) -> None:
    rows = load_artifact(finished.artifact_path).ledger
    assert {row.stage for row in rows} == {"preflight", "profile", "verify", "noise floor", "certify"}
    assert sum(row.ie or 0 for row in rows) <= finished.options.budget + 1  # a pair may cost more than expected


def test_certification_never_sees_what_tuning_saw(finished: Finished) -> None:
    seen: dict[str, set[str]] = {"tuning": set(), "held out": set()}
    seeds: dict[str, set[int]] = {"tuning": set(), "held out": set()}
    for record in MeasurementStore(finished.options.output, read_only=True):
        if record.key["kind"] in ("pair", "profile"):
            kind = "held out" if record.key["seed"] >= FIRST_SEED else "tuning"
            seen[kind].add(record.key["prompt"])
            seeds[kind].add(record.key["seed"])
    assert seen["tuning"]
    assert len(seen["held out"]) >= 4
    assert not seen["tuning"] & seen["held out"]
    assert not seeds["tuning"] & seeds["held out"]


def test_the_profile_and_the_pictures_are_there(finished: Finished) -> None:
    folder = finished.options.output
    profile = Profile.load(folder / "profile.safetensors")
    assert profile.similarity["Q"].shape == (8, STEPS)
    html = (folder / "report.html").read_text()
    evidence = load_artifact(finished.artifact_path).evidence
    assert evidence is not None
    assert html.count("data:video/mp4") == len(evidence.seeds)
    assert all(f"seed {seed};" in html for seed in evidence.seeds)
    assert f'asymrnr.load("{finished.artifact_path.name}")' in unescape(html)
    assert html.count("<svg") == len(list((folder / "figures").glob("*.svg"))) == 12


def test_resuming_a_finished_run_measures_nothing_and_changes_nothing(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_artifact(finished.artifact_path)
    if isinstance(finished.outcome, NoisyMeasurementError):
        pytest.skip("the machine was too busy, and what was disturbed is measured again")
    monkeypatch.setattr("tuner.run.runner.Runner._call", _forbidden)
    if isinstance(finished.outcome, TunerError):
        with pytest.raises(TunerError, match=re.escape(str(finished.outcome))):
            tune(replace(finished.options, resume=True), SilentProgress())
    else:
        tune(replace(finished.options, resume=True), SilentProgress())
    after = load_artifact(finished.artifact_path)
    assert after == before  # dates, machine and ledger are those of the measurements


def test_the_report_is_written_again_without_a_model(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(finished.outcome, NoisyMeasurementError):
        pytest.skip("the machine was too busy, and what was disturbed is to be measured again")
    folder = finished.options.output
    report, kept = folder / "report.html", finished.artifact_path.read_bytes()
    report.unlink()
    monkeypatch.setattr("tuner.opening.load_pipeline", _forbidden)
    assert report_of(folder) == report
    assert report.stat().st_size > 100_000
    assert finished.artifact_path.read_bytes() == kept


def test_a_killed_run_goes_on_where_it_was_and_ends_with_the_same_ledger(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of a pair: that pair is measured again, nothing else is."""
    if isinstance(finished.outcome, NoisyMeasurementError):
        pytest.skip("the machine was too busy, and what was disturbed is measured again")
    folder = tmp_path / "run"
    shutil.copytree(finished.options.output, folder)
    log = (folder / "measurements.jsonl").read_text().splitlines(keepends=True)
    last = max(i for i, line in enumerate(log) if json.loads(line)["key"]["kind"] == "pair")
    (folder / "measurements.jsonl").write_text("".join(log[:last]))
    again: list[dict[str, object]] = []
    original = Worker.do

    def make(self: Worker, job: Job, *told: Told) -> object:
        again.append({"prompt": job.key["prompt"], "seed": job.key["seed"]})
        return original(self, job, *told)

    monkeypatch.setattr(Worker, "do", make)
    with pytest.raises(UsageError, match="not finished"):
        report_of(folder)
    with suppress(TunerError):  # the pair's other timing may turn the verdict
        tune(replace(finished.options, output=folder, resume=True), SilentProgress())
    assert again
    assert again[0] == {k: json.loads(log[last])["key"][k] for k in ("prompt", "seed")}
    rows = {row.stage: row.charges for row in load_artifact(folder / finished.artifact_path.name).ledger}
    before = {row.stage: row.charges for row in load_artifact(finished.artifact_path).ledger}
    assert {k: v for k, v in rows.items() if k != "certify"} == {k: v for k, v in before.items() if k != "certify"}


def test_whatever_ends_a_run_the_best_schedule_so_far_is_saved(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.options.output, folder)
    (folder / finished.artifact_path.name).unlink()
    (folder / "report.html").unlink()
    monkeypatch.setattr("tuner.run.runner.Runner._call", _forbidden)
    monkeypatch.setattr(proof, "certify", _memory_error)
    with pytest.raises(TunerError, match=r"memory .* is used up; .*--frames.* The best schedule so far is saved"):
        tune(replace(finished.options, output=folder, resume=True), SilentProgress())
    saved = load_artifact(folder / finished.artifact_path.name)
    assert not saved.certified
    assert saved.prediction is not None
    assert "Not certified" in (folder / "report.html").read_text()


def test_a_folder_with_measurements_is_not_overwritten(finished: Finished) -> None:
    with pytest.raises(UsageError, match="--resume"):
        tune(finished.options, SilentProgress())


def test_measurements_of_another_machine_are_refused(quick_model: str, tmp_path: Path) -> None:
    with MeasurementStore(tmp_path) as store:
        store.put(opening.ENVIRONMENT_KEY, {"cpu": "another machine"}, None)
    with pytest.raises(EnvironmentMismatchError, match="measured elsewhere"):
        tune(_options(quick_model, tmp_path, resume=True), SilentProgress())


def test_an_impossible_target_ends_before_any_generation_with_the_best_attainable(
    quick_model: str, tmp_path: Path
) -> None:
    with pytest.raises(InfeasibleError, match=r"at most \d\.\d\dx"):
        tune(_options(quick_model, tmp_path, target_speedup=50.0), SilentProgress())
    frontier = json.loads((tmp_path / "frontier.json").read_text())
    assert 1 < frontier["best_attainable"] < 50
    kinds = {record.key["kind"] for record in MeasurementStore(tmp_path, read_only=True)}
    assert kinds.isdisjoint({"pair", "profile"})
    assert "at most" in (tmp_path / "report.html").read_text()


def test_a_budget_too_small_for_the_certificate_is_refused_early(quick_model: str, tmp_path: Path) -> None:
    with pytest.raises(BudgetExhaustedError, match="raise --budget"):
        tune(_options(quick_model, tmp_path, budget=3.0), SilentProgress())
    assert "profile" not in {record.key["kind"] for record in MeasurementStore(tmp_path, read_only=True)}


@pytest.mark.parametrize("change", [{"model": "nope"}, {"target_speedup": 1.0}, {"target_speedup": float("nan")}])
def test_bad_options_are_refused_before_anything_is_loaded(change: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        tune(_options(**{"model": "tiny-cogvideox", "output": tmp_path, **change}), SilentProgress())  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="choose one of"):
        find_model("nope")


def _options(model: str, output: Path, **changes: object) -> TuneOptions:
    return TuneOptions(**{"model": model, "output": output, "target_speedup": TARGET, "trials": 20, **changes})  # type: ignore[arg-type]


def _memory_error(*args: object, **kwargs: object) -> None:
    raise MemoryError


def _forbidden(*args: object, **kwargs: object) -> None:
    raise AssertionError("this was not to be reached")
