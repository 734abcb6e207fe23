"""Checking an artifact again: what does not fit is refused, the rest is measured, judged and saved."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asymrnr.artifact import (
    Artifact,
    EvidenceSection,
    GateSection,
    Interval,
    ModelSection,
    ScheduleSection,
    Speedup,
    WorkloadSection,
)
from asymrnr.artifact_io import load_artifact, save_artifact
from asymrnr.schedule import Schedule
from tests.pipeline.conftest import SilentProgress
from tuner import cli
from tuner.certify.gates import Gate
from tuner.certify.protocol import Certification
from tuner.certify.statistics import SpeedupEstimate
from tuner.commands.certify import Rechecked, noise_floor_of, recheck, target_of
from tuner.errors import EnvironmentMismatchError, TunerError, UsageError
from tuner.models import find_model
from tuner.run.context import TuneOptions
from tuner.run.store import MeasurementStore

TARGET = 1.01


def artifact_for(model: str, blocks: int = 8) -> Artifact:
    """Half of the queries, keys and values everywhere, never certified, made with another torch."""
    workload = find_model(model).workload
    schedule = Schedule(rates={f: np.full((blocks, workload.steps), 0.5) for f in ("Q", "V")}, cache_step=3)
    return Artifact(
        model=ModelSection(repo=model, transformer="CogVideoXTransformer3DModel", blocks=blocks),
        workload=WorkloadSection(**workload.as_dict()),
        schedule=ScheduleSection.from_schedule(schedule),
    )


def options_for(model: str, folder: Path) -> TuneOptions:
    return TuneOptions(model, TARGET, folder, budget=5.0)


def test_an_artifact_is_measured_judged_and_saved(quick_model: str, tmp_path: Path, monkeypatch, capsys) -> None:
    save_artifact(artifact_for(quick_model), tmp_path / "made.json")
    arguments = ["certify", tmp_path / "made.json", "--model", quick_model, "--output", tmp_path / "check"]
    arguments += ["--target-speedup", TARGET, "--budget", 30]
    monkeypatch.setattr("tuner.commands.certify.PAIRS", (2,))
    monkeypatch.setattr(sys, "argv", ["asymrnr-tune", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    streams = capsys.readouterr()
    checked = load_artifact(tmp_path / "check" / "x1.01.json")
    failed = {gate.name for gate in checked.gates if gate.verdict == "FAIL"}
    assert (stop.value.code == 0) == checked.certified == (not failed)
    if failed:
        assert stop.value.code == (3 if failed == {"speedup"} else 5 if failed <= {"speedup", "noise"} else 4)
        assert streams.err.splitlines()[-1].startswith("error: ")
    assert "differs: environment torch was not recorded" in streams.out
    assert "lpips-random-alex" in streams.out
    assert checked.evidence is not None
    assert len(checked.evidence.baseline_seconds) == len(checked.evidence.tuned_seconds) == 2
    assert next(g.value for g in checked.gates if g.name == "applied") == 2 * 8 * 6
    assert checked.schedule == artifact_for(quick_model).schedule
    assert target_of(checked) == TARGET
    kinds = [record.key["kind"] for record in MeasurementStore(tmp_path / "check")]
    assert kinds.count("generation") == 4
    assert "profile" not in kinds

    monkeypatch.setattr("tuner.run.runner.Runner._call", _forbidden)
    options = replace(options_for(quick_model, tmp_path / "check"), resume=True, budget=30)
    again = recheck(checked, options, SilentProgress())  # everything is read back
    assert again.artifact.evidence == checked.evidence
    assert again.differences == []


def test_one_pair_is_enough_where_the_artifact_knows_the_noise_floor(quick_model: str, tmp_path: Path) -> None:
    gate = GateSection(name="video", verdict="PASS", value=0.05, threshold=0.1)
    evidence = EvidenceSection(
        baseline_seconds=(2.0,),
        tuned_seconds=(1.5,),
        speedup=Speedup(point=1.3, lower_bound_95=1.2, scope="denoise"),
        quality={"mse": Interval(value=0.001)},
        prompts_sha256="0" * 64,
        seeds=(1,),
    )
    artifact = artifact_for(quick_model)
    assert noise_floor_of(artifact) is None
    known = artifact.model_copy(update={"gates": (gate,), "evidence": evidence})
    assert noise_floor_of(known) == pytest.approx(0.02)
    options = TuneOptions(quick_model, 1.01, tmp_path, budget=9.0)  # two pairs cost 4, the preflight up to 5 of 6 steps
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tuner.commands.certify.PAIRS", (1,))
        checked = recheck(known, options, SilentProgress())
    assert len(checked.certification.pairs) == 1
    gate_now = next(g for g in checked.certification.gates if g.name == "video")
    assert gate_now.value == pytest.approx(checked.certification.quality["mse"][0] / 0.02)


def test_other_numbers_of_steps_do_not_fit(quick_model: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tuner.commands.certify.open_run", _forbidden)
    with pytest.raises(EnvironmentMismatchError, match="workload steps was 30 and is 6 here"):
        recheck(artifact_for("tiny-cogvideox"), options_for(quick_model, tmp_path), SilentProgress())


def test_other_numbers_of_blocks_do_not_fit(quick_model: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMismatchError, match="model blocks was 7 and is 8 here"):
        recheck(artifact_for(quick_model, blocks=7), options_for(quick_model, tmp_path), SilentProgress())
    assert "generation" not in {record.key["kind"] for record in MeasurementStore(tmp_path)}


@pytest.mark.parametrize(
    ("failed", "code"),
    [
        ([], None),
        (["speedup"], 3),
        (["speedup", "noise"], 5),
        (["noise"], 5),
        (["video"], 4),
        (["speedup", "noise", "video"], 4),
        (["applied"], 4),
    ],
)
def test_exit_codes_follow_the_gates(failed: list[str], code: int | None, quick_model: str, tmp_path: Path) -> None:
    names = ("speedup", "noise", "applied", "video")
    gates = [Gate(name, "FAIL" if name in failed else "PASS", 0.0, 1.0, f"about {name}") for name in names]
    speed = SpeedupEstimate(1.0, 1.0, 0.0, 2)
    certification = Certification(speed, speed, [], {}, gates)
    checked = Rechecked(artifact_for(quick_model), tmp_path / "x1.01.json", [], certification, 4.0)
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
