"""The whole job, from preflight to an artifact with evidence, on every pipeline class that can be tuned."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipelines.tiny_pipelines import BUILDERS, START_FROM_PICTURES, START_FROM_VIDEOS
from tests.pipelines.unregistered import UNREGISTERED
from tests.pipelines.whole_job import assert_applies, assert_evidence, run_job

LIKE_OTHERS = ("cogvideox-5b", "fastvideo-hunyuan")  # of a class that another one is of as well
CLASSES = [*BUILDERS, *START_FROM_PICTURES, *START_FROM_VIDEOS, *UNREGISTERED]


@pytest.mark.parametrize("name", [name for name in CLASSES if name not in LIKE_OTHERS])
def test_from_preflight_to_the_artifact(name: str, tmp_path: Path) -> None:
    job = run_job(name, tmp_path)
    assert_evidence(job)
    assert_applies(job)


@pytest.mark.slow
@pytest.mark.parametrize("name", LIKE_OTHERS)
def test_from_preflight_to_the_report(name: str, tmp_path: Path) -> None:
    job = run_job(name, tmp_path, with_report=True)
    assert_evidence(job)
    assert (job.folder / "report.html").stat().st_size > 100_000
