"""The runtime on every supported pipeline class, from prompt to latents."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

import asymrnr
from asymrnr.sections import ScheduleSection
from tests.pipelines.helpers import latents, schedule
from tests.pipelines.tiny_pipelines import build, skip_unless_loadable, tiny_entry
from tests.runtime.tiny import assert_alike
from tuner.models import denoisers, weights_identity
from tuner.models.weights import PackagedWeights

CALLS_PER_STEP = {"wan-1.3b": 2}  # guidance in two calls; elsewhere in one batch, or not at all


def test_rate_zero_changes_no_bit(pipe: DiffusionPipeline, name: str) -> None:
    plain = latents(pipe, name)
    with asymrnr.apply(pipe, schedule(pipe, 0, 0)):
        assert torch.equal(latents(pipe, name), plain)


@pytest.mark.parametrize(("q", "v"), [(0.5, 0), (0, 0.4), (0.6, 0.3)])
def test_schedules_reduce_every_site_and_leave_no_trace(pipe: DiffusionPipeline, name: str, q: float, v: float) -> None:
    plain = latents(pipe, name)
    with asymrnr.apply(pipe, schedule(pipe, q, v)) as handle:
        reduced = latents(pipe, name)
        summary = handle.summary()
    assert torch.isfinite(reduced).all()
    assert not torch.equal(reduced, plain)
    assert set(summary.planned) == {feature for feature, rate in (("Q", q), ("V", v)) if rate}
    for feature, planned in summary.planned.items():
        assert np.all(planned == CALLS_PER_STEP.get(name, 1))
        assert np.array_equal(summary.reduced[feature], planned)
    assert torch.equal(latents(pipe, name), plain)


def test_generations_with_other_step_counts_equal_fresh_ones(pipe: DiffusionPipeline, name: str) -> None:
    plan = schedule(pipe, 0.5, 0.4)
    fresh = {}
    for steps in (3, 4):
        with asymrnr.apply(pipe, plan):
            fresh[steps] = latents(pipe, name, steps)
    with asymrnr.apply(pipe, plan) as handle:
        for steps in (4, 3, 3):
            assert torch.equal(latents(pipe, name, steps), fresh[steps])
            handle.verify()


def test_pipelines_do_not_touch_each_other(pipe: DiffusionPipeline, name: str) -> None:
    other = build(name, seed=1)
    plain, plain_other = latents(pipe, name), latents(other, name)
    with asymrnr.apply(pipe, schedule(pipe, 0.5, 0)):
        alone = latents(pipe, name)
        assert torch.equal(latents(other, name), plain_other)
        with asymrnr.apply(other, schedule(other, 0, 0.5)):
            assert torch.equal(latents(pipe, name), alone)
            assert not torch.equal(latents(other, name), plain_other)
        assert torch.equal(latents(other, name), plain_other)
        assert torch.equal(latents(pipe, name), alone)
    assert torch.equal(latents(pipe, name), plain)


def test_saving_is_not_affected(pipe: DiffusionPipeline, name: str, tmp_path: Path) -> None:
    skip_unless_loadable(name)
    plain = latents(pipe, name)
    pipe.save_pretrained(tmp_path / "before")
    with asymrnr.apply(pipe, schedule(pipe, 0.5, 0.4)):
        reduced = latents(pipe, name)
        pipe.save_pretrained(tmp_path / "applied")
    assert torch.equal(latents(pipe, name), plain)
    names = [sorted(p.relative_to(f) for p in f.rglob("*")) for f in (tmp_path / "before", tmp_path / "applied")]
    assert names[0] == names[1]
    loaded = type(pipe).from_pretrained(tmp_path / "applied")
    loaded.set_progress_bar_config(disable=True)
    weights, saved = (denoisers(p)[0].state_dict() for p in (loaded, pipe))
    assert weights.keys() == saved.keys()
    assert all(torch.equal(weights[key], saved[key]) for key in saved)
    assert_alike(latents(loaded, name), plain)
    with asymrnr.apply(loaded, schedule(loaded, 0.5, 0.4)):
        assert_alike(latents(loaded, name), reduced, plain)
    unused = PackagedWeights(tmp_path)
    before = type(pipe).from_pretrained(tmp_path / "before")
    assert weights_identity(loaded, unused) == weights_identity(before, unused)  # the same files, to the byte


def test_the_size_of_a_video_is_told_from_its_tokens(pipe: DiffusionPipeline, name: str) -> None:
    """With other sizes than made for, the warning names those generated; AnimateDiff's tokens say nothing of frames."""
    plan, workload = schedule(pipe, 0, 0), tiny_entry(name).workload
    made = {"frames": workload.frames + 24, "height": 2 * workload.height, "width": workload.width, "steps": 3}
    document = {
        "model": {"repo": name, "transformer": type(denoisers(pipe)[0]).__name__, "blocks": plan.blocks},
        "workload": made,
        "schedule": ScheduleSection.from_schedule(plan).model_dump(mode="json"),
    }
    fits = {**document, "workload": {**made, "frames": workload.frames, "height": workload.height}}
    with warnings.catch_warnings():
        warnings.simplefilter("error", asymrnr.OtherWorkload)
        handle = asymrnr.apply(pipe, asymrnr.Artifact.model_validate_json(json.dumps(fits)))
        latents(pipe, name)
    frames = "" if name == "animatediff" else f"{workload.frames} frames and "
    handle = asymrnr.apply(pipe, asymrnr.Artifact.model_validate_json(json.dumps(document)))
    with pytest.warns(asymrnr.OtherWorkload, match=f"has {frames}{workload.height}x{workload.width} pixels, for"):
        latents(pipe, name)
    handle.remove()
