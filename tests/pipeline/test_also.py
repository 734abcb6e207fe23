"""A further target of a run that is finished: only that one is measured, and all points stand in one artifact."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import asymrnr
from asymrnr.artifact_io import load_artifact
from tests.pipeline.conftest import TARGET, Finished, SilentProgress
from tuner.commands.report import report_of
from tuner.errors import TunerError
from tuner.pipeline import tune
from tuner.run.store import MeasurementStore

FURTHER = 1.15


@pytest.mark.slow
def test_a_further_target_is_measured_alone_and_joins_the_first(finished: Finished, tmp_path: Path) -> None:
    if isinstance(finished.outcome, TunerError):
        pytest.skip(f"the first target was not certified: {finished.outcome}")
    folder = tmp_path / "run"
    shutil.copytree(finished.options.output, folder)
    before = {record.key_hash for record in MeasurementStore(folder, read_only=True)}
    progress, options = SilentProgress(), replace(finished.options, output=folder, resume=True, also=(FURTHER,))
    error: TunerError | None = None
    try:
        tune(options, progress)
    except TunerError as found:  # of the further target; the first one stays certified
        error = found
    assert error is None or str(error).startswith(f"For {FURTHER:g}x: ")
    assert progress.stages.count(f"{FURTHER:g}x") == 1

    new = [record for record in MeasurementStore(folder, read_only=True) if record.key_hash not in before]
    assert {record.key["kind"] for record in new} <= {"options", "search", "pair"}
    old, artifact = load_artifact(finished.artifact_path), load_artifact(folder / finished.artifact_path.name)
    assert artifact.certified
    assert artifact.evidence == old.evidence
    certified = [point.target for point in artifact.points() if point.proven]
    assert certified == ([TARGET] if error else [TARGET, FURTHER])
    if error is None:
        faster = asymrnr.load(folder / finished.artifact_path.name, speedup=FURTHER)
        assert faster.content_hash() != artifact.schedule_object().content_hash()
        assert f"{FURTHER:g}x" in report_of(folder).read_text()
