"""Offloading and storage in fewer bits, as far as a CPU can do them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import asymrnr
from asymrnr import InterceptionError, Schedule
from asymrnr.adapters import find_adapter
from asymrnr.install import find_sites
from tests.runtime.test_models import SITES
from tests.runtime.tiny import DENOISERS, Inputs, assert_alike, build, run

TIMES = (900.0, 800.0, 700.0)


def schedule(denoiser: Any) -> Schedule:
    shape = (SITES[denoiser.__name__], len(TIMES))
    return Schedule(rates={"Q": np.full(shape, 0.5), "V": np.full(shape, 0.3)}, cache_step=2)


def outputs(model: nn.Module, inputs: Inputs) -> list[torch.Tensor]:
    return [run(model, inputs, timestep) for timestep in TIMES]


def reduced(denoiser: Any, model: nn.Module, inputs: Inputs) -> list[torch.Tensor]:
    plan = schedule(denoiser)
    with asymrnr.apply(model, plan) as handle:
        results = outputs(model, inputs)
        assert np.array_equal(handle.summary().reduced["Q"], plan.rates["Q"] > 0)
    return results


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, one, other))


def assert_computes_as_before(denoiser: Any, model: nn.Module, inputs: Inputs, plain: Any, want: Any) -> None:
    """With and without the schedule, now that the weights lie elsewhere."""
    for found, one, other in zip(reduced(denoiser, model, inputs), want, plain, strict=True):
        assert_alike(found, one, other)
    for found, other in zip(outputs(model, inputs), plain, strict=True):
        assert_alike(found, other)


@pytest.mark.parametrize("level", ["leaf_level", "block_level"])
@pytest.mark.parametrize("denoiser", DENOISERS, ids=lambda f: f.__name__)
def test_group_offload(denoiser: Any, level: str) -> None:
    model, inputs = build(denoiser)
    plain, want = outputs(model, inputs), reduced(denoiser, model, inputs)
    model.enable_group_offload(  # type: ignore[operator]
        onload_device=torch.device("cpu"), offload_type=level, num_blocks_per_group=1
    )
    assert_computes_as_before(denoiser, model, inputs, plain, want)


def test_group_offload_after_the_schedule() -> None:
    denoiser = DENOISERS[0]
    model, inputs = build(denoiser)
    plain, want = outputs(model, inputs), reduced(denoiser, model, inputs)
    with asymrnr.apply(model, schedule(denoiser)):
        model.enable_group_offload(onload_device=torch.device("cpu"), offload_type="leaf_level")  # type: ignore[operator]
        for found, one, other in zip(outputs(model, inputs), want, plain, strict=True):
            assert_alike(found, one, other)


@pytest.mark.parametrize("denoiser", DENOISERS, ids=lambda f: f.__name__)
def test_layerwise_casting(denoiser: Any) -> None:
    model, inputs = build(denoiser)
    model.enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float32)  # type: ignore[operator]
    site = find_sites(model, find_adapter(model))[0]
    plain = outputs(model, inputs)
    assert site.to_q.weight.dtype == torch.bfloat16
    with asymrnr.apply(model, schedule(denoiser)) as handle:
        first = outputs(model, inputs)
        handle.reset()
        assert same(outputs(model, inputs), first)
    assert not same(first, plain)
    assert all(output.dtype == torch.float32 for output in first)
    assert same(outputs(model, inputs), plain)


@pytest.mark.parametrize("disk", [False, True], ids=["memory", "disk"])
@pytest.mark.parametrize("denoiser", DENOISERS, ids=lambda f: f.__name__)
def test_accelerate_offload(denoiser: Any, disk: bool, tmp_path: Path) -> None:
    """Weights come to the device module by module, as with `enable_sequential_cpu_offload`."""
    accelerate = pytest.importorskip("accelerate")
    model, inputs = build(denoiser)
    plain, want = outputs(model, inputs), reduced(denoiser, model, inputs)
    if disk:
        accelerate.disk_offload(model, str(tmp_path), execution_device=torch.device("cpu"), offload_buffers=True)
    else:
        accelerate.cpu_offload(model, execution_device=torch.device("cpu"), offload_buffers=True)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert_computes_as_before(denoiser, model, inputs, plain, want)


def test_hooks_that_skip_nothing_excuse_no_missing_attention() -> None:
    model, inputs = build(DENOISERS[0])
    model.enable_layerwise_casting(storage_dtype=torch.bfloat16, compute_dtype=torch.float32)  # type: ignore[operator]
    block = model.transformer_blocks[1]  # type: ignore[index]
    block.attn1.forward = lambda hidden_states, encoder_hidden_states, **_: (hidden_states, encoder_hidden_states)
    asymrnr.apply(model, schedule(DENOISERS[0]))
    with pytest.raises(InterceptionError, match="1 of 2 blocks"):
        run(model, inputs)
