"""Checking an artifact again: what does not fit is refused, the rest is measured, judged and saved."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from asymrnr.artifact import Artifact
from asymrnr.artifact_io import load_artifact, save_artifact
from asymrnr.schedule import Schedule
from asymrnr.sections import (
    EvidenceSection,
    GateSection,
    Interval,
    ModelSection,
    ScheduleSection,
    Speedup,
    WorkloadSection,
)
from tests.pipeline.conftest import EMBEDDED, STEPS, SilentProgress
from tuner import cli
from tuner.certify.gates import Gate
from tuner.commands.recheck import Rechecked, recheck, target_of
from tuner.context import TuneOptions
from tuner.errors import EnvironmentMismatchError, TunerError, UsageError
from tuner.models import ModelEntry, WorkloadOptions, find_model
from tuner.package import workload_for
from tuner.run.store import MeasurementStore

TARGET = 1.05


def artifact_for(model: str, blocks: int = 8) -> Artifact:
    """Half of the queries, keys and values everywhere, never certified, made with another torch."""
    workload = find_model(model).workload
    schedule = Schedule(rates={f: np.full((blocks, workload.steps), 0.5) for f in ("Q", "V")}, cache_step=4)
    return Artifact(
        model=ModelSection(repo=model, transformer="CogVideoXTransformer3DModel", blocks=blocks),
        workload=WorkloadSection(**workload.as_dict()),
        schedule=ScheduleSection.from_schedule(schedule),
    )


def options_for(model: str, folder: Path, budget: float = 16.0) -> TuneOptions:
    return TuneOptions(model, TARGET, folder, budget=budget)


def test_an_artifact_is_measured_judged_and_saved(quick_model: str, tmp_path: Path, monkeypatch, capsys) -> None:
    warned = GateSection(name="agreement", verdict="WARN", threshold=0.8, value=0.7, message="two prompts differ")
    save_artifact(artifact_for(quick_model).model_copy(update={"gates": (warned,)}), tmp_path / "made.json")
    arguments = ["certify", tmp_path / "made.json", "--model", quick_model, "--output", tmp_path / "check"]
    arguments += ["--target-speedup", TARGET]
    monkeypatch.setattr(sys, "argv", ["asymrnr-tune", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    streams = capsys.readouterr()
    checked = load_artifact(tmp_path / "check" / "x1.05.json")
    failed = {gate.name for gate in checked.gates if gate.verdict == "FAIL"}
    assert (stop.value.code == 0) == checked.certified == (not failed)
    if failed:
        assert stop.value.code in (3, 4, 5, 7)
        assert streams.err.splitlines()[-1].startswith("error: ")
    assert "differs: environment torch was not recorded" in streams.out
    assert "lpips-random-alex" in streams.out
    assert checked.evidence is not None
    assert len(checked.evidence.seeds) in (4, 6, 8)
    assert next(g.value for g in checked.gates if g.name == "applied") == 2 * 8 * STEPS
    assert warned in checked.gates  # not measured again, so it still stands
    assert checked.schedule == artifact_for(quick_model).schedule
    assert target_of(checked) == TARGET
    kinds = [record.key["kind"] for record in MeasurementStore(tmp_path / "check", read_only=True)]
    assert kinds.count("pair") >= len(checked.evidence.seeds)
    assert "noise-floor" in kinds
    assert "profile" not in kinds

    if stop.value.code == 5:
        return  # what was disturbed is measured again
    monkeypatch.setattr("tuner.run.runner.Runner._call", _forbidden)
    options = replace(options_for(quick_model, tmp_path / "check"), resume=True)
    again = recheck(artifact_for(quick_model), options, SilentProgress())  # everything is read back
    assert again.artifact.evidence == checked.evidence
    assert again.artifact.provenance == checked.provenance


def test_a_small_budget_gives_a_spot_check_without_interval_or_certificate(quick_model: str, tmp_path: Path) -> None:
    evidence = EvidenceSection(
        baseline_seconds=(2.0,),
        tuned_seconds=(1.5,),
        speedup=Speedup(point=1.3, lower_bound_95=1.2, scope="denoise"),
        quality={"mse": Interval(value=0.001)},
        noise_floor=0.02,
        prompts_sha256="0" * 64,
        seeds=(1,),
    )
    artifact = artifact_for(quick_model)
    known = artifact.model_copy(update={"evidence": evidence})
    checked = recheck(known, options_for(quick_model, tmp_path, budget=3.0), SilentProgress())
    assert checked.spot_check
    assert len(checked.certification.pairs) == 1
    assert not checked.artifact.certified
    assert checked.artifact.evidence is not None
    assert checked.artifact.evidence.speedup.lower_bound_95 is None
    gate = next(g for g in checked.certification.gates if g.name == "video")
    assert gate.value == pytest.approx(checked.certification.quality["mse"][0] / 0.02)


def test_other_numbers_of_steps_do_not_fit(quick_model: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tuner.commands.recheck.open_run", _forbidden)
    with pytest.raises(EnvironmentMismatchError, match=f"workload steps was 30 and is {STEPS} here"):
        recheck(artifact_for("tiny-cogvideox"), options_for(quick_model, tmp_path), SilentProgress())


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> object:
    monkeypatch.setattr(sys, "argv", ["asymrnr-tune", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code


@pytest.fixture
def eight_steps(quick_model: str, tmp_path: Path) -> Path:
    """An artifact of the embedded model that was made for another workload than the registry's."""
    made = artifact_for(quick_model)
    path = tmp_path / "x1.20.json"
    save_artifact(made.model_copy(update={"model": made.model.model_copy(update={"repo": EMBEDDED})}), path)
    return path


@pytest.mark.parametrize("chosen", [[], ["--steps", STEPS]])
def test_the_workload_is_the_artifacts(eight_steps: Path, chosen: list[object], monkeypatch) -> None:
    asked: list[TuneOptions] = []

    def open_run(options: TuneOptions, _: object) -> None:
        asked.append(options)
        raise UsageError("enough")

    monkeypatch.setattr("tuner.commands.recheck.open_run", open_run)
    assert run(monkeypatch, "certify", eight_steps, "--model", EMBEDDED, "--target-speedup", TARGET, *chosen) == 2
    assert asked[0].model_entry().workload == find_model(EMBEDDED).with_workload(steps=STEPS).workload
    assert asked[0].output == Path("runs", f"certify-{EMBEDDED}-{STEPS}-steps-x1.20")


@pytest.mark.parametrize("chosen", [["--steps", 9], ["--frames", 13]])
def test_another_workload_than_the_artifacts_is_refused(
    eight_steps: Path, chosen: list[object], monkeypatch, capsys
) -> None:
    monkeypatch.setattr("tuner.commands.recheck.open_run", _forbidden)
    assert run(monkeypatch, "certify", eight_steps, "--model", EMBEDDED, "--target-speedup", TARGET, *chosen) == 6
    assert f"and is {chosen[1]} here" in capsys.readouterr().err


def test_an_artifact_of_another_model_does_not_choose_the_workload(quick_model: str) -> None:
    other = artifact_for(quick_model)
    assert workload_for(other, EMBEDDED, WorkloadOptions()) == WorkloadOptions()
    assert workload_for(other, quick_model, WorkloadOptions()).steps == STEPS


@pytest.mark.parametrize(("chosen", "steps"), [([], STEPS), (["--steps", 5], 5)])
def test_videos_have_the_steps_of_their_schedule(
    eight_steps: Path, chosen: list[object], steps: int, monkeypatch, tmp_path: Path
) -> None:
    seen: list[int] = []

    def runner(_: object, entry: ModelEntry) -> None:
        seen.append(entry.workload.steps)
        raise UsageError("enough")

    monkeypatch.setattr("tuner.run.runner.Runner", runner)
    arguments = ["--model", EMBEDDED, "--prompt", "x", "--schedule", eight_steps, "-o", tmp_path / "v.mp4"]
    assert run(monkeypatch, "generate", *arguments, *chosen) == 2
    assert seen == [steps]


def test_other_numbers_of_blocks_do_not_fit(quick_model: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMismatchError, match="model blocks was 7 and is 8 here"):
        recheck(artifact_for(quick_model, blocks=7), options_for(quick_model, tmp_path), SilentProgress())
    assert "pair" not in {record.key["kind"] for record in MeasurementStore(tmp_path, read_only=True)}


@pytest.mark.parametrize(
    ("failed", "undecided", "code"),
    [
        ([], False, None),
        (["speedup"], False, 3),
        (["speedup"], True, 7),
        (["speedup", "noise"], True, 5),
        (["noise"], False, 5),
        (["video"], False, 4),
        (["speedup", "noise", "video"], False, 4),
        (["applied"], False, 4),
    ],
)
def test_exit_codes_follow_the_gates(
    failed: list[str], undecided: bool, code: int | None, quick_model: str, tmp_path: Path
) -> None:
    gates = [Gate(name, "FAIL", 0.0, 1.0, f"about {name}", open=undecided) for name in failed]
    certification: Any = SimpleNamespace(
        failed=lambda: gates, certified=not failed, pairs=[None] * 8, disturbed=(), cut_short=None
    )
    path = tmp_path / "x1.05.json"
    checked = Rechecked(artifact_for(quick_model), path, [], certification, False, TARGET, 4.0)
    assert getattr(checked.error, "exit_code", None) == code
    assert code is None or isinstance(checked.error, TunerError)


def test_the_target_is_the_one_it_was_judged_for(quick_model: str) -> None:
    artifact = artifact_for(quick_model)
    with pytest.raises(UsageError, match="--target-speedup"):
        target_of(artifact)
    gate = GateSection(name="speedup", verdict="FAIL", threshold=1.2)
    assert target_of(artifact.model_copy(update={"gates": (gate,)})) == 1.2


def _forbidden(*args: object, **kwargs: object) -> None:
    raise AssertionError("this was not to be reached")
