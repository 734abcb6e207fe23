"""Schedules of one's own come from and go to plain values, files and the hub."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import asymrnr
from asymrnr import ArtifactError, NotCertified, Partner, Schedule, ScheduleError
from asymrnr.hub import FILE_NAME
from tests.artifact.hub_server import TOKEN, Hub
from tests.runtime.tiny import cogvideox_pipeline

SIZE = {"frames": 5, "height": 32, "width": 48}


@pytest.fixture
def own() -> Schedule:
    pipe = cogvideox_pipeline()
    blocks = len(pipe.transformer.transformer_blocks)
    actions = np.tile([1, 2, 3], (blocks, 1))
    return Schedule({"Q": np.where(actions == 2, 0.5, 0.0)}, actions=actions, seed=5, storage="int8")


def test_plain_values_say_everything(own: Schedule) -> None:
    values = own.to_dict()
    assert Schedule.from_dict(json.loads(json.dumps(values))).content_hash() == own.content_hash()
    cached = replace(own, actions=None, partner=Partner.parse("first-block-cache:0.1"))
    assert Schedule.from_dict(cached.to_dict()).content_hash() == cached.content_hash()


@pytest.mark.parametrize(
    "change", [{"rates": {"Q": [[1.0, 0, 0]]}}, {"sead": 5}, {"stride": "2x2x2"}, {"rates": {"X": [[0.5]]}}]
)
def test_values_that_are_no_schedule_are_one_sentence(own: Schedule, change: dict[str, Any]) -> None:
    with pytest.raises(ScheduleError, match=rf"^These values are no schedule: .*{next(iter(change))}") as caught:
        Schedule.from_dict({**own.to_dict(), **change})
    assert "\n" not in str(caught.value)
    with pytest.raises(ScheduleError, match="form"):
        Schedule.from_dict({})


def test_a_saved_one_is_applied_from_its_file(own: Schedule, tmp_path: Path) -> None:
    pipe, path = cogvideox_pipeline(), tmp_path / "mine.json"
    saved = own.save(path, pipe, **SIZE)
    assert not saved.certified
    assert (saved.model.transformer, saved.workload.steps) == ("CogVideoXTransformer3DModel", 3)
    assert (saved.workload.frames, saved.workload.height, saved.workload.width) == tuple(SIZE.values())
    with pytest.warns(NotCertified):
        loaded = asymrnr.load(path)
    assert loaded.content_hash() == own.content_hash() == Schedule.from_pretrained(path).content_hash()
    with pytest.warns(NotCertified):
        asymrnr.apply(pipe, path).remove()


def test_a_folder_of_ones_own_stays_unnamed(own: Schedule, tmp_path: Path) -> None:
    pipe = cogvideox_pipeline()
    pipe.register_to_config(_name_or_path=str(tmp_path))
    assert own.artifact(pipe, **SIZE).model.repo == tmp_path.name
    pipe.register_to_config(_name_or_path="someone/model")
    assert own.artifact(pipe, **SIZE).model.repo == "someone/model"


def test_what_does_not_fit_is_refused(own: Schedule, tmp_path: Path) -> None:
    other = Schedule({"Q": np.full((own.blocks + 1, 3), 0.5)})
    with pytest.raises(ArtifactError, match=rf"cannot be saved: .*{own.blocks + 1} rows for a model of {own.blocks}"):
        other.save(tmp_path / "x.json", cogvideox_pipeline(), **SIZE)
    with pytest.raises(ArtifactError, match="frames"):
        own.save(tmp_path / "x.json", cogvideox_pipeline(), **{**SIZE, "frames": 0})
    assert not (tmp_path / "x.json").exists()


def test_it_goes_to_the_hub_and_comes_back(own: Schedule, hub: Hub) -> None:
    pushed = own.push_to_hub("someone/own", cogvideox_pipeline(), token=TOKEN, **SIZE)
    assert FILE_NAME in hub.repositories["someone/own"].commits[pushed.commit]
    assert Schedule.from_pretrained("someone/own@1").content_hash() == own.content_hash()


def test_uniform_fits_every_model() -> None:
    handle = asymrnr.apply(cogvideox_pipeline(), Schedule.uniform(q=0.5, v=0.3, stride=(1, 2, 2)))
    assert "0.50 of it" in repr(handle)
    handle.remove()
    with pytest.raises(ScheduleError, match=r"\[0, 1\)"):
        Schedule.uniform(q=1.0)
