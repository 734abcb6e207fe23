"""The whole job, from preflight to an artifact with evidence, on every pipeline class that can be tuned."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pipelines.tiny_pipelines import BUILDERS, START_FROM_PICTURES, START_FROM_VIDEOS
from tests.pipelines.unregistered import UNREGISTERED
from tests.pipelines.whole_job import assert_applies, assert_evidence, run_job

CLASSES = [*BUILDERS, *START_FROM_PICTURES, *START_FROM_VIDEOS, *UNREGISTERED]


@pytest.mark.parametrize("name", CLASSES)
def test_from_preflight_to_the_artifact(name: str, tmp_path: Path) -> None:
    job = run_job(name, tmp_path)
    assert_evidence(job)
    assert_applies(job)
