"""What is seen and timed of the attention of every supported pipeline class."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from asymrnr.actions import Action
from asymrnr.schedule import Schedule
from tests.pipelines.test_runtime import CALLS_PER_STEP
from tests.pipelines.tiny_pipelines import build, tiny_entry
from tuner.commands.solve_profile import model_of
from tuner.latency import micro as timing
from tuner.latency.micro import Sites, latency_model, look_at_sites, measure_sites
from tuner.opening import open_scratch
from tuner.profile.profile import Profile
from tuner.profile.settings import ProfilerSettings
from tuner.profile.watch import observe_generation
from tuner.run.runner import Runner
from tuner.search.space import SearchSpace
from tuner.stages.preflight import measure_latency

GRIDS = {"mochi": [(2, 4, 4)], "ltx-video": [(3, 8, 8)], "animatediff": [(1, 16, 16), (1, 8, 8)]}
HALVES = {"mochi": 2}  # batch items one after the other


def test_every_shape_and_call_of_a_step_is_seen(runner: Runner, name: str) -> None:
    sites = look_at_sites(runner, "a cat")
    assert sites.calls == CALLS_PER_STEP.get(name, 1) * HALVES.get(name, 1)
    assert [shape.grid for shape in sites.shapes] == GRIDS.get(name, [(3, 4, 4)])
    branches = 2 if runner.entry.workload.guidance_scale > 1 and name != "hunyuanvideo" else 1
    frames = tiny_entry(name).workload.frames if name == "animatediff" else 1
    assert {shape.batch * sites.calls for shape in sites.shapes} == {branches * frames}
    assert len(sites.projection_ratios) == len(sites.shape_of)
    assert min(sites.projection_ratios) > 0
    values = json.loads(json.dumps(asdict(sites)))
    assert Sites.from_dict(values) == sites
    del values["projection_ratios"]  # as kept before they were timed
    assert Sites.from_dict(values) == replace(sites, projection_ratios=())


@pytest.mark.parametrize("name", ["wan-1.3b", "animatediff"])
def test_a_step_is_all_its_calls_and_the_rest(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SURFACE_SECONDS", 0.0)
    runner = Runner(build(name), tiny_entry(name))
    sites = look_at_sites(runner, "a cat")
    latency = measure_sites(sites, ("1x2x2",), runner.device)
    assert [surface.grid for surface in latency.surfaces] == [shape.grid for shape in sites.shapes]
    one_call = np.array([float(surface.attention_seconds(0, 0)) for surface in latency.surfaces])
    attention = sites.calls * one_call[list(sites.shape_of)].sum()
    model = latency_model(latency, step_seconds=10.0, steps=3)
    assert model.rest_seconds == pytest.approx(3 * (10 - attention))
    projections = np.array(sites.projection_ratios) * latency.attention_seconds(0.0, 0.0)
    assert latency.projections == pytest.approx(projections)
    assert model.outside_seconds == pytest.approx(3 * (10 - attention - projections.sum()))
    assert measure_sites(replace(sites, projection_ratios=()), ("1x2x2",), runner.device).projections == ()
    assert model.baseline_seconds == pytest.approx(30)


@pytest.mark.parametrize("name", ["wan-1.3b", "animatediff"])
def test_a_saved_profile_predicts_as_the_machine_was_timed(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(timing, "SURFACE_SECONDS", 0.0)
    runner = Runner(build(name), tiny_entry(name))
    space = SearchSpace(strides=("1x2x2",), cache_steps=(2,), rates=(0.0, 0.5))
    with open_scratch(runner, space) as ctx:
        model = measure_latency(ctx)
    settings = ProfilerSettings(strides=("1x2x2",), cache_steps=(2,), rates=(0.5,), total_steps=3)
    told: list[tuple[int, int]] = []
    profile, generation = observe_generation(runner, settings, 0, model, lambda *values: told.append(values))
    assert told == [(step, 6) for step in range(1, 7)]  # a second prompt takes as many steps, being so few
    assert set(profile.agreement) == {"H", "Q", "K", "V"}
    assert all(-1 <= found.low <= found.high <= 1 for found in profile.agreement.values())
    assert len(generation.step_seconds) == 3
    profile.save(tmp_path / "p.safetensors")
    assert model_of(Profile.load(tmp_path / "p.safetensors")) == model


def test_what_was_timed_before_is_read_back_with_or_without_projections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SURFACE_SECONDS", 0.0)
    name = "wan-1.3b"
    runner = Runner(build(name), tiny_entry(name))
    space = SearchSpace(strides=("1x2x2",), cache_steps=(2,), rates=(0.0, 0.5))
    with open_scratch(runner, space) as ctx:
        model = measure_latency(ctx)
        assert min(model.sites.projections) > 0
        assert measure_latency(ctx) == model
        store = ctx.instrument.store
        for line in store.lines():  # as an earlier release kept it
            values = dict(line["values"])
            found = [values.pop(name, None) for name in ("projection_ratios", "projections")]
            if any(found):
                store.put(line["key"], values)
        made = len(store)
        older = measure_latency(ctx)
        assert len(store) == made
    assert older.sites == replace(model.sites, projections=())
    broadcasts = np.tile([Action.REFRESH, Action.BROADCAST, Action.BROADCAST], (model.blocks, 1))
    schedule = Schedule({"Q": np.zeros(broadcasts.shape)}, actions=broadcasts)
    attention = older.attention_share * older.baseline_seconds
    assert older.predict(schedule) == pytest.approx(older.baseline_seconds - 2 / 3 * attention)
