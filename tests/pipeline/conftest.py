"""The main job on the embedded model with six denoising steps, run once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tuner.certify import verify
from tuner.errors import InfeasibleError, TunerError
from tuner.models import REGISTRY
from tuner.pipeline import Outcome, tune
from tuner.run.context import TuneOptions

QUICK = "quick"
TARGET = 1.02
ATTEMPTS = 3


class SilentProgress:
    """Remembers the stages."""

    def __init__(self) -> None:
        self.stages: list[str] = []

    def stage(self, name: str, detail: str = "") -> None:
        self.stages.append(name)

    def advance(self, done: float, total: float, detail: str = "") -> None:
        assert 0 <= done <= total

    def budget(self, spent: float, total: float) -> None:
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
    """The embedded model with a six-step workload, in the registry under its own name."""
    with pytest.MonkeyPatch.context() as patch:
        entry = REGISTRY["tiny-cogvideox"]
        patch.setitem(REGISTRY, QUICK, replace(entry, name=QUICK, workload=replace(entry.workload, steps=6)))
        # far above the target, so that noise does not decide the run
        patch.setattr(verify, "search_margin", lambda scatter: 0.15)
        yield QUICK


@pytest.fixture(scope="session")
def finished(quick_model: str, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    for attempt in range(ATTEMPTS):
        folder = tmp_path_factory.mktemp("run")
        options = TuneOptions(quick_model, TARGET, folder, budget=40, trials=20, command="test")
        progress = SilentProgress()
        try:
            outcome: Outcome | TunerError = tune(options, progress)
        except InfeasibleError as error:  # a machine busy with something else made the schedule look slow
            outcome = error
            if attempt + 1 < ATTEMPTS:
                continue
        except TunerError as error:
            outcome = error
        break
    return Finished(options, outcome, progress.stages)
