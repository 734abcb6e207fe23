"""The main job on the embedded model with eight denoising steps, as a user would run it, once for all tests here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tuner.context import AUTO, TuneOptions
from tuner.errors import TunerError
from tuner.findings import Outcome
from tuner.models import REGISTRY, WorkloadOptions
from tuner.outlook import Part
from tuner.pipeline import tune

EMBEDDED, QUICK, STEPS = "tiny-cogvideox", "quick", 8
TARGET = 1.1


class SilentProgress:
    """Remembers the stages."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def plan(self, parts: Sequence[Part]) -> None:
        assert parts

    def stage(self, name: str, detail: str = "") -> None:
        self.stages.append(name)

    def advance(self, done: float, total: float, detail: str = "") -> None:
        assert 0 <= done <= total

    def budget(self, spent: float, total: float, unit_seconds: float | None = None) -> None:
        assert spent >= 0

    def best(self, text: str) -> None:
        assert text


@dataclass(frozen=True)
class Finished:
    """A finished run: what it was asked, what came back (an error when a gate failed), and its stages."""

    options: TuneOptions
    outcome: Outcome | TunerError
    stages: list[str]

    @property
    def artifact_path(self) -> Path:
        return self.options.output / f"x{TARGET:.2f}.json"


@pytest.fixture(scope="session")
def quick_model() -> Iterator[str]:
    """The embedded model with an eight-step workload, in the registry under its own name."""
    with pytest.MonkeyPatch.context() as patch:
        entry = REGISTRY[EMBEDDED]
        patch.setitem(REGISTRY, QUICK, replace(entry.with_workload(steps=STEPS), name=QUICK))
        yield QUICK


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder, workload = tmp_path_factory.mktemp("run"), WorkloadOptions(steps=STEPS)
    options = TuneOptions(EMBEDDED, TARGET, folder, trials=30, command="test", workload=workload, partner=AUTO)
    progress = SilentProgress()
    try:
        outcome: Outcome | TunerError = tune(options, progress)
    except TunerError as error:
        outcome = error
    return Finished(options, outcome, progress.stages)
