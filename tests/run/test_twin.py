from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline
from torch import nn

import asymrnr
from asymrnr.intercept import is_proxy
from tests.pipelines.helpers import latents, left_as_found, schedule
from tests.pipelines.tiny_pipelines import BUILDERS, build
from tuner.models import denoisers
from tuner.run.twin import NoTwinError, twin_module, twin_pipeline

NAMES = [name for name in BUILDERS if name != "fastvideo-hunyuan"]  # a HunyuanVideo
_built = functools.cache(build)


@pytest.fixture(params=NAMES)
def pipe(request: pytest.FixtureRequest) -> Iterator[DiffusionPipeline]:
    shared = _built(request.param)
    with left_as_found(shared):
        yield shared


def tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


def processors(pipe: DiffusionPipeline) -> list[Any]:
    denoiser = denoisers(pipe)[0]
    return [getattr(module, "processor", None) for module in denoiser.modules()]


def test_a_twin_shares_every_parameter_and_buffer(pipe: DiffusionPipeline) -> None:
    (own,), (other,) = denoisers(pipe), denoisers(twin_pipeline(pipe))
    assert other is not own
    assert len(tensors(own)) > 10
    assert [t.data_ptr() for t in tensors(other)] == [t.data_ptr() for t in tensors(own)]
    assert all(mine is yours for mine, yours in zip(tensors(own), tensors(other), strict=True))
    assert not set(map(id, own.modules())) & set(map(id, other.modules()))


def test_a_twin_has_its_own_sampler_and_shares_the_other_parts(pipe: DiffusionPipeline) -> None:
    pipe.scheduler.set_timesteps(7)
    twin = twin_pipeline(pipe)
    assert type(twin) is type(pipe)
    twin.scheduler.set_timesteps(3)
    assert (len(pipe.scheduler.timesteps), len(twin.scheduler.timesteps)) == (7, 3)
    own = {"scheduler", "transformer", "unet"}
    for name, part in pipe.components.items():
        assert (twin.components[name] is part) == (name not in own)
    assert twin._execution_device == pipe._execution_device


def test_schedules_on_one_leave_the_other_alone(pipe: DiffusionPipeline) -> None:
    plan = schedule(pipe, 0.5, 0.4)
    twin = twin_pipeline(pipe)
    for reduced, other in ((twin, pipe), (pipe, twin)):
        found = processors(other)
        with left_as_found(reduced):
            with left_as_found(other):
                handle = asymrnr.apply(reduced, plan)
                assert any(is_proxy(processor) for processor in processors(reduced))
                assert processors(other) == found
                assert not any(is_proxy(processor) for processor in found)
                asymrnr.apply(other, plan).remove()  # both at once
            handle.remove()


def test_hooks_on_one_are_not_called_by_the_other() -> None:
    pipe = build("mochi")
    plain = latents(pipe, "mochi", steps=2)
    twin = twin_pipeline(pipe)  # of a pipeline that has run already
    called: list[str] = []
    for name, side in (("own", pipe), ("twin", twin)):
        denoisers(side)[0].register_forward_pre_hook(lambda *_, name=name: called.append(name))
    assert torch.equal(latents(twin, "mochi", steps=2), plain)
    assert called == ["twin"] * 2
    assert torch.equal(latents(pipe, "mochi", steps=2), plain)
    assert called == ["twin"] * 2 + ["own"] * 2


def test_both_denoisers_of_wan_22_are_doubled() -> None:
    first, second = build("wan-1.3b"), build("wan-1.3b", seed=1)
    pipe = type(first)(**{**first.components, "transformer_2": second.transformer}, boundary_ratio=0.9)
    own, other = denoisers(pipe), denoisers(twin_pipeline(pipe))
    assert len(own) == len(other) == 2
    for mine, yours in zip(own, other, strict=True):
        assert mine is not yours
        assert [t.data_ptr() for t in tensors(mine)] == [t.data_ptr() for t in tensors(yours)]


def compile_whole(pipe: Any) -> None:
    pipe.transformer = torch.compile(pipe.transformer)


def compile_in_place(pipe: Any) -> None:
    pipe.transformer.compile()


def compile_block(pipe: Any) -> None:
    pipe.transformer.transformer_blocks[1].compile()


def offload(pipe: Any) -> None:
    hooks = pytest.importorskip("accelerate.hooks")
    hooks.add_hook_to_module(pipe.transformer.transformer_blocks[0], hooks.ModelHook())


def cache_first_block(pipe: Any) -> None:
    pipe.transformer.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.1))


def cast_layers(pipe: Any) -> None:
    pipe.transformer.enable_layerwise_casting(torch.bfloat16, torch.float32)


def hold_a_lock(pipe: Any) -> None:
    pipe.transformer.lock = threading.Lock()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (compile_whole, "is compiled"),
        (compile_in_place, "is compiled"),
        (compile_block, "is compiled"),
        (offload, "offloading hooks"),
        (cache_first_block, "cache or another hook of diffusers"),
        (cast_layers, "cache or another hook of diffusers"),
        (hold_a_lock, "cannot be copied"),
    ],
)
def test_what_belongs_to_one_denoiser_alone_is_refused_with_a_reason(
    change: Callable[[Any], None], reason: str
) -> None:
    pipe: Any = build("mochi")
    change(pipe)
    changed = pipe.transformer
    with pytest.raises(NoTwinError, match=reason):
        twin_pipeline(pipe)
    with pytest.raises(NoTwinError, match=reason):
        twin_module(pipe.transformer)
    assert pipe.transformer is changed


def test_a_cache_that_was_taken_out_again_is_no_obstacle() -> None:
    pipe: Any = build("mochi")
    plain = latents(pipe, "mochi", steps=2)
    cache_first_block(pipe)
    pipe.transformer.disable_cache()
    twin = twin_pipeline(pipe)
    with torch.no_grad():
        pipe.transformer.proj_out.register_forward_hook(lambda *_: pytest.fail("the twin called the original"))
        assert torch.equal(latents(twin, "mochi", steps=2), plain)
