"""Steps are left out by a plan, certified with it, and applied and removed with the artifact."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import asymrnr
from asymrnr.artifact_io import load_artifact
from tests.pipeline.conftest import EMBEDDED, STEPS, Finished, SilentProgress
from tests.pipelines.helpers import left_as_found
from tests.pipelines.whole_job import STEPS as FEW
from tests.pipelines.whole_job import assert_applies, assert_evidence, run_job
from tuner.errors import TunerError
from tuner.models import REGISTRY, load_pipeline
from tuner.package import file_name
from tuner.pipeline import tune
from tuner.quality.metrics import psnr
from tuner.run.runner import Runner
from tuner.search.memory import KINDS

FAST = 1.5


def test_left_out_steps_are_planned_measured_and_applied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(KINDS, "computed")  # of random weights, measured errors may speak for it
    job = run_job("wan-1.3b", tmp_path, target=FAST)
    partner = job.artifact.schedule_object().partner
    assert partner is not None
    assert partner.is_planned
    assert partner.left_out(FEW).any()
    assert_evidence(job)
    assert_applies(job)


def test_every_step_is_computed_where_that_is_asked_for(tmp_path: Path) -> None:
    assert run_job("cogvideox-2b", tmp_path, target=FAST, partner=None).artifact.schedule_object().partner is None


@pytest.mark.slow
def test_left_out_steps_leave_the_embedded_model_its_quality(finished: Finished, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.options.output, folder)  # what was profiled and timed there is used again
    options = replace(finished.options, output=folder, resume=True, target_speedup=FAST)
    error: TunerError | None = None
    try:
        tune(options, SilentProgress())
    except TunerError as found:  # the speed or the quality was not reached for certain: what was measured is saved
        error = found
    artifact = load_artifact(folder / file_name(FAST))
    partner = artifact.schedule_object().partner
    assert partner is not None
    assert partner.is_planned
    assert artifact.evidence is not None
    assert artifact.certified == (error is None)
    assert artifact.evidence.speedup.point == pytest.approx(FAST, rel=0.15)
    gates = {gate.name: gate for gate in artifact.gates}
    assert gates["applied"].verdict == "PASS"

    runner = Runner(load_pipeline(EMBEDDED), REGISTRY[EMBEDDED].with_workload(steps=STEPS))
    prompt = runner.entry.held_out_prompts(4)[0]
    plain = runner.generate(prompt, 5)
    with left_as_found(runner.pipe), asymrnr.apply(runner.pipe, artifact) as handle:
        tuned = runner.generate(prompt, 5)
        assert handle.summary().skipped.any(axis=0).sum() == partner.left_out(STEPS).sum()
    assert psnr(tuned.video, plain.video) > 30
