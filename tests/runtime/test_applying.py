"""What apply takes: names, files, runs, one rate for all; replacing, and removing without the handle."""

from __future__ import annotations

import logging
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch

import asymrnr
from asymrnr import Action, Artifact, ArtifactError, NotCertified, Schedule, ScheduleError, UniformSchedule
from tests.runtime.test_pipeline import schedule, snapshot
from tests.runtime.tiny import cogvideox_pipeline, generate, tiny_artifact


@pytest.fixture
def pipeline() -> diffusers.CogVideoXPipeline:
    return cogvideox_pipeline()


@pytest.fixture
def artifact() -> Artifact:
    return tiny_artifact(schedule(0.5, 0.25), 9, 16)


def test_artifacts_files_and_runs_are_applied_like_their_schedule(
    pipeline: diffusers.CogVideoXPipeline, artifact: Artifact, tmp_path: Path
) -> None:
    with asymrnr.apply(pipeline, schedule(0.5, 0.25)):
        expected = generate(pipeline)
    path = tmp_path / "run" / "x1.20.json"
    path.parent.mkdir()
    asymrnr.save_artifact(artifact, path)
    for what in (artifact, path, str(path), path.parent, str(path.parent)):
        with asymrnr.apply(pipeline, what):
            assert torch.equal(generate(pipeline), expected)


def test_a_folder_with_several_artifacts_or_none_is_no_run(artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there is none"):
        asymrnr.load(tmp_path)
    for name in ("x1.10.json", "x1.20.json"):
        asymrnr.save_artifact(artifact, tmp_path / name)
    with pytest.raises(ArtifactError, match=r"there are x1\.10\.json, x1\.20\.json; give one of them"):
        asymrnr.load(tmp_path)


def test_a_number_in_place_of_a_profile_is_a_speed_up() -> None:
    wanted = asymrnr.load("tiny-cogvideox", speedup=1.2)
    for number in (1.2, "1.2", "1.20", "1.2x"):
        assert asymrnr.load("tiny-cogvideox", number).content_hash() == wanted.content_hash()
    with pytest.raises(ArtifactError, match=r"^Two speed-ups are given, 1\.2 and 1\.8; leave one out\.$"):
        asymrnr.load("tiny-cogvideox", 1.2, speedup=1.8)


def test_what_is_not_certified_is_said_unless_asked_for_by_name(recwarn: pytest.WarningsRecorder) -> None:
    with pytest.warns(NotCertified, match="The schedule of mochi is not certified; `asymrnr-tune --model mochi"):
        asymrnr.load("mochi")
    recwarn.clear()
    asymrnr.load("mochi", "paper-base")
    asymrnr.load("tiny-cogvideox")
    assert not recwarn.list


def test_one_rate_for_all_is_what_it_says(pipeline: diffusers.CogVideoXPipeline) -> None:
    with asymrnr.apply(pipeline, schedule(0.5, 0.25, steps=1, cache_step=5)):
        expected = generate(pipeline)
    with asymrnr.apply(pipeline, UniformSchedule(q=0.5, v=0.25)) as handle:
        assert torch.equal(generate(pipeline), expected)
        assert handle.schedule is not None
        assert handle.schedule.blocks == 2
    with pytest.raises(ScheduleError, match=r"must lie in \[0, 1\)"):
        UniformSchedule(q=1.0)


def test_applying_again_replaces(pipeline: diffusers.CogVideoXPipeline, caplog: pytest.LogCaptureFixture) -> None:
    with asymrnr.apply(pipeline, schedule(0.25, 0)):
        expected = generate(pipeline)
    before = snapshot(pipeline.transformer)
    with caplog.at_level(logging.INFO, "asymrnr"):
        first = asymrnr.apply(pipeline, schedule(0.5, 0))
        second = asymrnr.apply(pipeline, schedule(0.25, 0))
    assert torch.equal(generate(pipeline), expected)
    assert (first.active, second.active) == (False, True)
    assert asymrnr.applied(pipeline) is second
    assert len(caplog.records) == 2
    with pytest.raises(ScheduleError, match="for 3 blocks"):
        asymrnr.apply(pipeline, schedule(0.5, 0, blocks=3))
    assert second.active  # what cannot be applied replaces nothing
    with first:  # replaced, so that there is nothing to verify
        pass
    assert second.active
    assert asymrnr.remove(pipeline)
    assert not asymrnr.remove(pipeline)
    assert asymrnr.applied(pipeline) is None
    assert snapshot(pipeline.transformer) == before


def test_people_can_read_what_they_print(pipeline: diffusers.CogVideoXPipeline) -> None:
    actions = np.tile([Action.REFRESH, Action.MEMORY, Action.MEMORY, Action.BROADCAST], (2, 1))
    remembering = Schedule({"Q": np.where(actions == Action.MEMORY, 0.5, 0.0)}, actions=actions)
    text = "2 blocks x 4 steps, stride 2x2x2, Q at 50% of the sites, 0.50 of it, memory at 50%, broadcast at 25%"
    assert repr(remembering) == f"<Schedule: {text}, attention 0.50>"
    assert "<tr><th>stride</th><td>2x2x2</td></tr>" in remembering._repr_html_()
    handle = asymrnr.apply(pipeline, remembering)
    generate(pipeline)
    assert "<caption>Handle, active</caption>" in handle._repr_html_()
    assert "<tr><th>broadcast</th><td>at " in handle.summary()._repr_html_()
    assert repr(handle) == f"<Handle of {remembering!r}, active>"
    assert repr(handle.summary()) == f"<Summary: {handle.summary()}>"
    handle.remove()
    assert repr(handle).endswith("removed>")
    assert asymrnr.__version__[0].isdigit()
