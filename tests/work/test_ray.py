"""A whole run with two real workers on a real local Ray: the embedded model shortened to two blocks and four steps."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from asymrnr.artifact import Artifact
from asymrnr.artifact_io import load_artifact
from tests.work.postgres import Postgres
from tuner.context import NoProgress, TuneOptions
from tuner.errors import TunerError, UsageError
from tuner.findings import Findings
from tuner.models import LoadOptions, WorkloadOptions, load_pipeline
from tuner.opening import close as close_run
from tuner.opening import open_records, open_run
from tuner.pipeline import go, tune
from tuner.run.job import Job
from tuner.run.store import COST, MeasurementStore
from tuner.work.cluster import TEMPORARY, open_room

MODEL, TARGET = "tiny-cogvideox", 1.05


class Said(NoProgress):
    """Remembers the stages and what they said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def stage(self, name: str, detail: str = "") -> None:
        self.said.append(f"{name} {detail}")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    pipe: Any = load_pipeline(MODEL)
    pipe.transformer.transformer_blocks = pipe.transformer.transformer_blocks[:2]
    pipe.transformer.register_to_config(num_layers=2)
    pipe.save_pretrained(folder)
    return folder


def options(folder: Path, weights: Path, **changes: Any) -> TuneOptions:
    workload = WorkloadOptions(steps=4)
    usual = {"budget": 60.0, "trials": 6, "load": LoadOptions(weights), "workload": workload, "workers": "2"}
    return TuneOptions(MODEL, TARGET, folder, **{**usual, **changes})


@dataclass
class Finished:
    options: TuneOptions
    said: list[str]
    artifact: Artifact


@pytest.fixture(scope="module")
def finished(weights: Path, server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    asked = options(tmp_path_factory.mktemp("run") / "run", weights, store=server.url)
    progress = Said()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tuner.pipeline.why_inert", lambda findings: None)  # saved even where all was too noisy to tell
        with suppress(TunerError):  # two blocks generate noise, which no gate lets pass
            tune(asked, progress)
        yield Finished(asked, progress.said, load_artifact(asked.output / f"x{TARGET:.2f}.json"))


def test_two_workers_make_what_a_run_needs(finished: Finished) -> None:
    assert any("worker 2 of 2 is ready" in line for line in finished.said)
    assert not any("lost" in line for line in finished.said)
    with MeasurementStore(finished.options.output, read_only=True) as store:
        kinds = [line["key"]["kind"] for line in store.lines() if COST in line["values"]]
        assert store.warnings == []
    assert kinds.count("noise-floor") == 3  # every prompt by itself
    assert {"profile", "glance", "pair"} <= set(kinds)
    assert finished.artifact.evidence is not None
    assert set(finished.artifact.evidence.modes or ()) == {"lock-step"}
    assert finished.artifact.provenance.environment["threads"] == 1


def test_nothing_is_left_behind(finished: Finished) -> None:
    assert not (finished.options.output / "workers").exists()
    assert not list(Path(tempfile.gettempdir()).glob(f"{TEMPORARY}{os.getpid()}-*"))
    MeasurementStore(finished.options.output).close()  # nobody has it


def test_the_same_measurements_give_the_same_schedule_without_any_worker(finished: Finished) -> None:
    ctx, findings = open_records(finished.options.output), Findings()
    with suppress(TunerError):
        go(ctx, findings)
    assert findings.artifact is not None
    assert findings.artifact.schedule == finished.artifact.schedule
    assert findings.artifact.evidence == finished.artifact.evidence
    assert findings.artifact.ledger == finished.artifact.ledger


def test_another_run_takes_all_of_it_from_the_database(
    finished: Finished, weights: Path, server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, on one thread as the workers: the same kind of machine."""
    monkeypatch.setattr("tuner.run.runner.Runner._call", None)  # nothing may be generated
    monkeypatch.setattr("torch.get_num_threads", lambda: 1)
    asked = options(tmp_path / "run", weights, workers=None, store=server.url)
    ctx = open_run(asked, Said())
    try:
        for line in _measured(finished.options.output):
            assert ctx.instrument.measure("test", Job(line["key"])).values[COST] == line["values"][COST]
    finally:
        close_run(ctx)


def _measured(folder: Path) -> list[dict[str, Any]]:
    with MeasurementStore(folder, read_only=True) as store:
        return [line for line in store.lines() if COST in line["values"]]


@pytest.mark.parametrize("workers", ["0", "-1", "many", "1.5", "", "9999"])
def test_what_is_no_number_of_workers_is_refused_in_one_sentence(workers: str) -> None:
    with pytest.raises(UsageError, match="give a number from 1 to 256, or ray://HOST:PORT"):
        open_room(workers, "cpu")
