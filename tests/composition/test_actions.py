"""Memory and broadcasting beside diffusers' caches, which may skip a refresh, and beside offloading."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from torch import nn

import asymrnr
from asymrnr import Action, Schedule, intercept
from asymrnr.adapters import find_adapter
from asymrnr.install import find_sites
from tests.composition.test_caches import CALLS_PER_STEP, MODELS, PAIRS, STEPS, pyramid
from tests.pipelines.helpers import latents
from tests.pipelines.tiny_pipelines import build as build_pipeline
from tests.runtime.test_models import SITES
from tests.runtime.tiny import DENOISERS, assert_alike, build, run
from tuner.models import denoisers

ACTIONS = [1, 2, 3, 1, 2, 3]  # caches that compute every second step skip the second refresh


def schedule(sites: int, actions: list[int]) -> Schedule:
    table = np.tile(actions, (sites, 1))
    rates = {feature: np.where(table == Action.MEMORY, rate, 0.0) for feature, rate in (("Q", 0.5), ("V", 0.3))}
    return Schedule(rates=rates, actions=table)


@contextmanager
def computed(pipe: DiffusionPipeline, calls_per_step: int) -> Iterator[list[tuple[int, int, int, int]]]:
    """(step, call within the step, block, batch size) of all calls of processors, which caches leave out."""
    found: list[tuple[int, int, int, int]] = []
    passes, original = [-1], intercept._call_eagerly

    def on_forward(*_: Any) -> None:
        passes[0] += 1

    def call(site: Any, inner: Any, bound: Any) -> Any:
        batch = bound.arguments["hidden_states"].shape[0]
        found.append((*divmod(passes[0], calls_per_step), site.row, batch))
        return original(site, inner, bound)

    handle = denoisers(pipe)[0].register_forward_pre_hook(on_forward)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intercept, "_call_eagerly", call)
        yield found
    handle.remove()


def expected(calls: list[tuple[int, int, int, int]], actions: list[int]) -> dict[Action, np.ndarray]:
    """What each call can do, if nothing is used but what was kept since the last refresh that the schedule plans."""
    blocks = 1 + max(block for _, _, block, _ in calls)
    done = {action: np.zeros((blocks, STEPS), dtype=int) for action in list(Action)[1:]}
    kept: dict[tuple[int, int, int], int] = {}
    for step, call, block, batch in calls:
        window = max(at for at in range(step + 1) if actions[at] == Action.REFRESH)
        usable = kept.get((call, block, batch)) == window
        action = Action(actions[step]) if usable else Action.REFRESH
        done[action][block, step] += 1
        kept[call, block, batch] = window
    return done


@pytest.mark.parametrize(("cache", "name"), PAIRS)
def test_a_skipped_refresh_leaves_nothing_stale(cache: Callable[[Any, str], Any], name: str) -> None:
    pipe = build_pipeline(name)
    denoiser: Any = denoisers(pipe)[0]
    plain = latents(pipe, name, STEPS)
    sites = len(find_sites(denoiser, find_adapter(denoiser)))
    plan = schedule(sites, ACTIONS)
    denoiser.enable_cache(cache(pipe, name))
    cached = latents(pipe, name, STEPS)
    with computed(pipe, CALLS_PER_STEP.get(name, 1)) as calls, asymrnr.apply(pipe, plan) as handle:
        both = latents(pipe, name, STEPS)
        summary = handle.summary()
        handle.verify()
        assert handle._engine.memory is not None
        assert handle._engine.memory.held() == 0 < summary.memory_bytes  # the decoder has the space
    want = expected(calls, ACTIONS)
    assert 0 < len(calls) < sites * STEPS * CALLS_PER_STEP.get(name, 1)  # the cache skips something
    for action, done in summary.done.items():
        assert np.array_equal(done, want[action]), action
    assert torch.isfinite(both).all()
    assert torch.equal(latents(pipe, name, STEPS), cached)
    denoiser.disable_cache()
    with asymrnr.apply(pipe, plan):  # the cache on top of the schedule
        denoiser.enable_cache(cache(pipe, name))
        for _ in range(2):
            assert torch.equal(latents(pipe, name, STEPS), both)
        denoiser.disable_cache()
    assert torch.equal(latents(pipe, name, STEPS), plain)


@pytest.mark.parametrize("name", [*MODELS, "animatediff"])
def test_complete_pipelines(name: str) -> None:
    pipe = build_pipeline(name)
    plain = latents(pipe, name, STEPS)
    plan = schedule(len(find_sites(denoisers(pipe)[0], find_adapter(denoisers(pipe)[0]))), ACTIONS)
    assert plan.actions is not None
    with asymrnr.apply(pipe, plan) as handle:
        outputs = [latents(pipe, name, STEPS) for _ in range(2)]
        summary = handle.summary()
        assert handle._engine.memory is not None
        assert handle._engine.memory.held() == 0 < summary.memory_bytes
    for action, done in summary.done.items():
        assert np.array_equal(done, CALLS_PER_STEP.get(name, 1) * (plan.actions == action))
    assert torch.isfinite(outputs[0]).all()
    assert torch.equal(*outputs)
    assert not torch.equal(outputs[0], plain)
    assert torch.equal(latents(pipe, name, STEPS), plain)


def test_a_late_refresh_is_seen_in_the_summary() -> None:
    """Pyramid Attention Broadcast computes steps 0, 2 and 4; the refresh at step 3 comes at step 4."""
    pipe = build_pipeline("cogvideox-5b")
    denoisers(pipe)[0].enable_cache(pyramid(pipe, "cogvideox-5b"))
    sites = len(find_sites(denoisers(pipe)[0], find_adapter(denoisers(pipe)[0])))
    with asymrnr.apply(pipe, schedule(sites, ACTIONS)) as handle:
        latents(pipe, "cogvideox-5b", STEPS)
        done = handle.summary().done
    assert done[Action.REFRESH].tolist() == [[1, 0, 0, 0, 1, 0]] * sites
    assert done[Action.BROADCAST].tolist() == [[0, 0, 1, 0, 0, 0]] * sites
    assert not done[Action.MEMORY].any()


def group_offload(model: Any) -> None:
    model.enable_group_offload(onload_device=torch.device("cpu"), offload_type="leaf_level")


def block_offload(model: Any) -> None:
    model.enable_group_offload(onload_device=torch.device("cpu"), offload_type="block_level", num_blocks_per_group=1)


def accelerate_offload(model: nn.Module) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"), offload_buffers=True)


@pytest.mark.parametrize("offload", [group_offload, block_offload, accelerate_offload], ids=lambda f: f.__name__)
@pytest.mark.parametrize("denoiser", DENOISERS, ids=lambda f: f.__name__)
def test_offloading(denoiser: Any, offload: Callable[[Any], None]) -> None:
    model, inputs = build(denoiser)
    plan, times = schedule(SITES[denoiser.__name__], [1, 2, 3, 2]), (900.0, 800.0, 700.0, 600.0)
    assert plan.actions is not None
    plain = [run(model, inputs, t) for t in times]
    results = []
    for _ in range(2):
        with asymrnr.apply(model, plan) as handle:
            results.append([run(model, inputs, t) for t in times])
            for action, done in handle.summary().done.items():
                assert np.array_equal(done, plan.actions == action)
        if len(results) == 1:
            offload(model)
    for found, want, other in zip(results[1], results[0], plain, strict=True):
        assert_alike(found, want, None if torch.equal(want, other) else other)


def test_layerwise_casting() -> None:
    model, inputs = build(DENOISERS[0])
    model.enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float32)  # type: ignore[operator]
    plain = run(model, inputs, 900.0)
    with asymrnr.apply(model, schedule(2, [1, 2, 3])) as handle:
        outputs = [run(model, inputs, t) for t in (900.0, 800.0, 700.0)]
        handle.reset()
        assert all(map(torch.equal, [run(model, inputs, t) for t in (900.0, 800.0, 700.0)], outputs))
    assert torch.equal(outputs[0], plain)
    assert torch.equal(run(model, inputs, 900.0), plain)
