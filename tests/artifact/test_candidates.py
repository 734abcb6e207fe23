"""Of all schedules that go by a name those that fit a pipeline are told from those that do not, with the reasons."""

from __future__ import annotations

import dataclasses
import logging
import warnings
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

import asymrnr
import asymrnr.find
from asymrnr import Artifact, ArtifactError, NoneFits, NotCertified, Partner, Schedule
from asymrnr.artifact_io import save_artifact
from asymrnr.fit import CPU, Here, misfits, remarks
from asymrnr.sections import ScheduleSection
from tests.runtime.tiny import cogvideox_pipeline, generate

HERE = Here(
    transformer="CogVideoXTransformer3DModel",
    blocks=2,
    scheduler="CogVideoXDDIMScheduler",
    dtype="float32",
    device=CPU,
    may_cache=True,
    cached=False,
    compiled=False,
    workload={"steps": 3, "frames": 12, "height": 64, "width": 64},
    heads=2,
)


@pytest.fixture
def certified(document: dict[str, Any]) -> Artifact:
    """For two blocks, with schedules for 1.3x and 1.8x."""
    point = {name: document[name] for name in ("schedule", "evidence", "gates")}
    further = {**point, "target": 1.8, "schedule": {**document["schedule"], "seed": 8}}
    return Artifact.model_validate({**document, "target": 1.3, "frontier": [further]})


@pytest.fixture
def profiles(certified: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One model with a profile for 3 steps and one for 8."""
    folder = tmp_path / "profiles" / "tiny"
    save_artifact(certified, folder / "3-steps.json")
    document = certified.model_dump(mode="json")
    longer = dataclasses.replace(certified.schedule_object(), timesteps=None, form="table", thresholds={})
    longer = dataclasses.replace(longer, rates={name: table[:, [0] * 8] for name, table in longer.rates.items()})
    section = ScheduleSection.from_schedule(longer).model_dump(mode="json")
    document |= {"schedule": section, "frontier": [], "workload": {**document["workload"], "steps": 8}, "target": 1.2}
    save_artifact(Artifact.model_validate(document), folder / "8-steps.json")
    monkeypatch.setattr(asymrnr.find, "profiles_folder", lambda: folder.parent)
    return folder


def test_what_fits_has_nothing_against_it(certified: Artifact) -> None:
    assert misfits(certified, HERE) == []
    assert remarks(certified, HERE) == []
    assert misfits(certified, dataclasses.replace(HERE, workload={})) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"transformer": "MochiTransformer3DModel"}, "is for CogVideoXTransformer3DModel"),
        ({"blocks": 30}, "is for 2 blocks, not 30"),
        ({"workload": {"steps": 4}}, "is for steps 3, not 4"),
        ({"workload": {"frames": 13}}, "is for frames 12, not 13"),
        ({"workload": {"height": 65}}, "is for height 64, not 65"),
        ({"device": "NVIDIA H100"}, "was measured on a CPU, not on NVIDIA H100"),
    ],
)
def test_what_does_not_fit_has_one_reason(certified: Artifact, change: dict[str, Any], reason: str) -> None:
    assert misfits(certified, dataclasses.replace(HERE, **change)) == [reason]


def test_caches_and_compiled_code_are_looked_at(certified: Artifact) -> None:
    def brings(**changes: Any) -> Artifact:
        schedule = dataclasses.replace(certified.schedule_object(), **changes)
        return certified.model_copy(update={"schedule": ScheduleSection.from_schedule(schedule)})

    cached = brings(partner=Partner("first-block-cache"))
    assert misfits(cached, HERE) == []
    for change, reason in (
        ({"may_cache": False}, "brings first-block-cache, but diffusers has no caches for this denoiser"),
        ({"cached": True}, "brings first-block-cache, but a cache is enabled already"),
        ({"compiled": True}, "brings a cache, which leaves out compiled code"),
    ):
        assert misfits(cached, dataclasses.replace(HERE, **change)) == [reason]
    plain = dataclasses.replace(HERE, compiled=True, may_cache=False)
    assert misfits(certified, plain) == []


@pytest.mark.parametrize(
    ("change", "remark"),
    [
        ({"dtype": "bfloat16"}, "was measured with float32, not bfloat16"),
        ({"cached": True}, "was measured without the cache that is enabled"),
    ],
)
def test_what_the_certificate_does_not_cover_is_remarked(
    certified: Artifact, change: dict[str, Any], remark: str
) -> None:
    assert remarks(certified, dataclasses.replace(HERE, **change)) == [remark]


def test_another_card_is_remarked(certified: Artifact) -> None:
    environment = {**certified.provenance.environment, "gpu": "NVIDIA H100"}
    provenance = certified.provenance.model_copy(update={"environment": environment})
    there = certified.model_copy(update={"provenance": provenance})
    here = dataclasses.replace(HERE, device="NVIDIA H200")
    assert misfits(there, here) == []
    assert remarks(there, here) == ["was measured on NVIDIA H100, not on NVIDIA H200"]
    uncertified = certified.model_copy(update={"evidence": None})
    assert remarks(uncertified, here) == ["is predicted, not measured"]


def test_a_pipeline_is_described() -> None:
    pipe = cogvideox_pipeline()
    here = Here.of(pipe, {"steps": 3, "frames": None})
    assert here == dataclasses.replace(HERE, scheduler=type(pipe.scheduler).__name__, workload={"steps": 3})
    with asymrnr.apply(pipe, Schedule({"Q": torch.zeros(2, 1).numpy()}, partner=Partner("first-block-cache"))):
        assert not Here.of(pipe, {}).cached  # applying replaces it
        generate(pipe)
    pipe.transformer.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.1))
    assert Here.of(pipe, {}).cached
    assert Here.of(pipe.transformer, {}).scheduler is None


def test_every_schedule_is_listed_with_its_reasons(profiles: Path) -> None:
    found = asymrnr.candidates("tiny", cogvideox_pipeline(), steps=3)
    assert [(each.name, each.artifact.target, each.accepted) for each in found] == [
        ("3-steps", 1.3, True),
        ("3-steps", 1.8, True),
        ("8-steps", 1.2, False),
    ]
    assert str(found[2]) == "8-steps at 1.2x: rejected, is for steps 8, not 3"
    wanted = asymrnr.candidates("tiny", cogvideox_pipeline(), speedup=1.5)
    assert [each.artifact.target for each in wanted if each.accepted] == [1.8]
    assert "3-steps at 1.3x: rejected, was not made for 1.5x" in map(str, wanted)


def test_the_nearest_that_fits_is_loaded(profiles: Path, caplog: pytest.LogCaptureFixture) -> None:
    pipe = cogvideox_pipeline()
    caplog.set_level(logging.INFO, "asymrnr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert asymrnr.load("tiny", for_=pipe, steps=3, speedup=1.2).seed == 7
        assert asymrnr.load("tiny", 1.4, for_=pipe, steps=3).seed == 8
        assert asymrnr.load("tiny", for_=pipe, steps=8).steps == 8
        assert asymrnr.load(profiles / "8-steps.json", for_=pipe).steps == 8
    assert "8-steps at 1.2x: rejected, is for steps 8, not 3" in caplog.messages


def test_where_none_fits_nothing_is_reduced(profiles: Path) -> None:
    pipe = cogvideox_pipeline()
    plain = generate(pipe)
    with pytest.warns(NoneFits) as caught:
        schedule = asymrnr.load("tiny", for_=pipe, steps=5, speedup=1.25)
    said = str(caught[0].message)
    assert said.startswith("No schedule fits this CogVideoXPipeline, so nothing is reduced: ")
    assert "8-steps at 1.2x: rejected, is for steps 8, not 5 and was not made for 1.25x" in said
    assert said.endswith("`asymrnr-tune --model tiny-cogvideox --steps 5 --target-speedup 1.25` makes one.")
    assert schedule.planned_sites() == 0
    with asymrnr.apply(pipe, schedule):
        assert torch.equal(generate(pipe), plain)


def test_what_is_used_beyond_its_certificate_is_said(profiles: Path) -> None:
    pipe = cogvideox_pipeline()
    pipe.transformer.to(torch.bfloat16)
    with pytest.warns(NotCertified, match=r"3-steps was measured with float32, not bfloat16, so it is not certified"):
        asymrnr.load("tiny", for_=pipe, steps=3)


def test_arguments_that_do_not_go_together_are_refused(profiles: Path) -> None:
    with pytest.raises(ArtifactError, match=r"^steps says what a pipeline is to generate; give the pipeline, too"):
        asymrnr.load("tiny", steps=3)
    with pytest.raises(ArtifactError, match=r"the profile is found; leave '3-steps' out"):
        asymrnr.load("tiny", "3-steps", for_=cogvideox_pipeline())
    with pytest.raises(ArtifactError, match="There is no profile for 'other'"):
        asymrnr.load("other", for_=cogvideox_pipeline())
