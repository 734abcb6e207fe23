"""Memory and broadcasting on tiny denoisers: what is spared and held, what never leaks, and what is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import asymrnr
from asymrnr import Action, Schedule, ScheduleError
from asymrnr.adapters import find_adapter
from asymrnr.install import find_sites
from asymrnr.reduction import Plan, add_tokens
from asymrnr.restoration import Residual
from tests.runtime.test_models import SITES
from tests.runtime.tiny import (
    DENOISERS,
    Inputs,
    animatediff,
    build,
    cogvideox,
    cogvideox_pipeline,
    generate,
    ltx,
    run,
    wan,
)

Denoiser = Callable[[], tuple[nn.Module, Inputs]]
TIMES = (900.0, 800.0, 700.0)


def schedule(sites: int, actions: list[int], q: float = 0.5, v: float = 0.0, **settings: Any) -> Schedule:
    """The same at all sites; rates where they restore with memory."""
    table = np.tile(actions, (sites, 1))
    where = np.isin(table, (0, Action.MEMORY)) & (np.arange(len(actions)) > 0)
    rates = {"Q": np.where(where, q, 0.0), "V": np.where(where, v, 0.0)}
    return Schedule(rates=rates, actions=table, **settings)


def test_adding_to_some_tokens_row_by_row_or_at_once() -> None:
    x, values = torch.randn(2, 3, 10, 4), torch.randn(2, 3, 5, 4)
    plan = Plan(torch.rand(2, 3, 10).argsort(-1)[..., :5].to(torch.int32), torch.zeros(2, 3, 10, dtype=torch.int32))
    where = plan.dropped()
    assert (where.dtype, where.shape) == (torch.int32, (2, 3, 5))
    everything = torch.cat([where, plan.take], dim=-1).sort(-1).values
    assert torch.equal(everything, torch.arange(10, dtype=torch.int32).expand(2, 3, 10))
    want = x.clone()
    for item, head, place in np.ndindex(2, 3, 5):
        want[item, head, where[item, head, place]] += values[item, head, place]
    with torch.no_grad():
        for tensor in (x.clone(), x.clone().requires_grad_()):  # the latter as on a GPU
            add_tokens(tensor, where, values)
            assert torch.equal(tensor, want)


@contextmanager
def counted(model: nn.Module) -> Iterator[dict[str, int]]:
    """Calls of query projections and of attention itself."""
    counts, original = {"projections": 0, "attention": 0}, F.scaled_dot_product_attention

    def count(*_: Any) -> None:
        counts["projections"] += 1

    def attention(*args: Any, **kwargs: Any) -> torch.Tensor:
        counts["attention"] += 1
        return original(*args, **kwargs)

    hooks = [site.to_q.register_forward_pre_hook(count) for site in find_sites(model, find_adapter(model))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", attention)
        yield counts
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("denoiser", DENOISERS, ids=lambda f: f.__name__)
def test_broadcasting_computes_nothing_and_gives_what_the_module_gave(denoiser: Denoiser) -> None:
    model, inputs = build(denoiser)
    plain, sites = run(model, inputs, 900.0), SITES[denoiser.__name__]
    with counted(model) as counts, asymrnr.apply(model, schedule(sites, [1, 3, 3])) as handle:
        outputs = [run(model, inputs, 900.0)]
        assert counts["projections"] == sites
        before = dict(counts)
        outputs += [run(model, inputs, t) for t in TIMES[1:]]
        others = counts["attention"] - before["attention"]  # cross-attention and motion modules, where there are any
        assert counts["projections"] == before["projections"]
        summary = handle.summary()
    with counted(model) as counts:
        run(model, inputs)
    items = 2 if denoiser.__name__ == "mochi" else 1
    assert others == 2 * (counts["attention"] - items * sites)
    assert torch.equal(outputs[0], plain)
    assert not torch.equal(outputs[1], run(model, inputs, TIMES[1]))
    assert summary.calls == items * sites
    assert summary.done[Action.BROADCAST].tolist() == [[0, 1, 1]] * sites


def test_only_what_a_reduced_v_gets_wrong_takes_a_second_attention() -> None:
    model, inputs = build(cogvideox)
    for v, attentions in ((0.0, 1), (0.4, 2)):
        with counted(model) as counts, asymrnr.apply(model, schedule(2, [1, 2], v=v)):
            run(model, inputs, 900.0)
            assert counts["attention"] == 2 * attentions
            run(model, inputs, 800.0)
            assert counts["attention"] == 2 * attentions + 2


def test_matchings_live_from_refresh_to_refresh() -> None:
    model, inputs = build(cogvideox)
    plan = schedule(2, [1, 2, 0, 2, 1, 2], v=0.3, cache_step=1)
    with asymrnr.apply(model, plan) as handle:
        for timestep in (900.0, 800.0, 700.0, 600.0, 500.0, 400.0):
            run(model, inputs, timestep)
        assert handle.summary().matches == 2 * 2 * 3  # two refreshes, one copying


def test_memory_is_nearer_to_the_plain_output_than_copying() -> None:
    model, inputs = build(cogvideox)
    plain = [run(model, inputs, t) for t in TIMES]
    errors = []
    for actions in ([1, 2, 2], [1, 0, 0]):
        with asymrnr.apply(model, schedule(2, actions, v=0.5)):
            outputs = [run(model, inputs, t) for t in TIMES]
        assert torch.equal(outputs[0], plain[0])
        errors.append([float((o - p).norm()) for o, p in zip(outputs, plain, strict=True)][1:])
    assert np.all(np.array(errors[0]) < 0.2 * np.array(errors[1]))


def test_guidance_branches_do_not_leak() -> None:
    model, inputs = build(wan)
    texts = {name: {**inputs, "encoder_hidden_states": torch.randn(2, 9, 8)} for name in ("cond", "uncond")}
    plan = schedule(2, [1, 2, 3], v=0.3)
    alone = {}
    for name, text in texts.items():
        with asymrnr.apply(model, plan):
            alone[name] = [run(model, text, t) for t in TIMES]
    with asymrnr.apply(model, plan) as handle:
        for step, timestep in enumerate(TIMES):
            for name, text in texts.items():
                with model.cache_context(name):  # type: ignore[operator]
                    assert torch.equal(run(model, text, timestep), alone[name][step])
        assert handle.summary().done[Action.MEMORY].tolist() == [[0, 2, 0]] * 2


def test_a_branch_that_begins_later_refreshes_first() -> None:
    model, inputs = build(wan)
    plain = run(model, inputs, TIMES[1])
    with asymrnr.apply(model, schedule(2, [1, 2, 3])) as handle:
        for step, timestep in enumerate(TIMES):
            for name in ("cond", "uncond")[: 1 if step == 0 else 2]:
                with model.cache_context(name):  # type: ignore[operator]
                    output = run(model, inputs, timestep)
                if (step, name) == (1, "uncond"):
                    assert torch.equal(output, plain)
        summary = handle.summary()
        assert summary.done[Action.REFRESH].tolist() == [[1, 1, 0]] * 2
        assert summary.planned["Q"].tolist() == [[0, 1, 0]] * 2
        assert summary.done[Action.BROADCAST].tolist() == [[0, 0, 2]] * 2


@torch.no_grad()
def run_any(model: nn.Module, inputs: Inputs, timestep: float) -> torch.Tensor:
    """`run` with any batch size."""
    times = torch.full((len(inputs["hidden_states"]),), timestep)
    return model(**inputs, timestep=times, return_dict=False)[0]


@pytest.mark.parametrize("actions", [[1, 2, 2], [1, 3, 3]], ids=["memory", "broadcast"])
def test_another_batch_or_resolution_starts_afresh(actions: list[int]) -> None:
    model, inputs = build(ltx)
    one = {k: x[:1] if isinstance(x, torch.Tensor) else x for k, x in inputs.items()}
    small = {**inputs, "hidden_states": inputs["hidden_states"][:, :96], "num_frames": 4, "height": 4, "width": 6}
    for changed in (one, small):
        plain = run_any(model, changed, 800.0)
        with asymrnr.apply(model, schedule(2, actions)) as handle:
            run(model, inputs, 900.0)
            before = handle._engine.memory.held()  # type: ignore[union-attr]
            assert torch.equal(run_any(model, changed, 800.0), plain)
            assert 0 < handle._engine.memory.held() < before  # type: ignore[union-attr]
            run_any(model, changed, 700.0)
            done = handle.summary().done
            assert done[Action.REFRESH].tolist() == [[1, 1, 0]] * 2
            assert done[Action(actions[2])].tolist() == [[0, 0, 1]] * 2


def test_second_denoisers_refresh_first() -> None:
    """As in Wan 2.2, where the second denoiser takes over at low noise."""
    (high, inputs), (low, _) = build(wan), build(wan, seed=1)
    plain = run(low, inputs, 800.0)
    with asymrnr.apply(SimpleNamespace(transformer=high, transformer_2=low), schedule(2, [1, 2, 2])) as handle:
        run(high, inputs, 900.0)
        assert torch.equal(run(low, inputs, 800.0), plain)
        run(low, inputs, 700.0)
        assert handle.summary().done[Action.MEMORY].tolist() == [[0, 0, 1]] * 2


def test_what_is_held_is_counted_and_let_go_of() -> None:
    model, inputs = build(cogvideox)
    entry = 4 * 2 * 2 * 152 * 16  # one float32 tensor of the joint sequence
    kept = 152 - 144 + int(144 * 0.5)
    plan = 4 * 2 * 2 * (kept + 152)  # int32 indices
    dropped = 4 * 2 * 2 * 72 * (16 + 1)  # what a reduced Q gets wrong, and where
    for actions, v, want in (
        ([1, 2, 0], 0.0, dropped + plan),
        ([1, 2, 0], 0.5, entry + 2 * plan),
        ([1, 3, 0], 0.0, entry),
        ([1, 2, 3], 0.0, entry + dropped + plan),
    ):
        handle = asymrnr.apply(model, schedule(2, actions, v=v))
        memory = handle._engine.memory
        assert memory is not None
        run(model, inputs, 900.0)
        assert memory.held() == 2 * want
        for timestep in TIMES[1:]:
            run(model, inputs, timestep)
        assert memory.held() == (2 * want if actions[2] else 0)  # nothing later needs it
        assert handle.summary().memory_bytes == 2 * want
        handle.remove()
        assert memory.held() == 0
        assert handle.summary().memory_bytes == 2 * want
        assert "MiB kept at most" in str(handle.summary())
    with asymrnr.apply(model, Schedule(rates={"Q": np.full((2, 1), 0.5)})) as handle:
        run(model, inputs)
        assert handle._engine.memory is None
        assert handle.summary().done == {}
        assert handle.summary().memory_bytes > 0  # of matchings


def test_only_sites_that_use_it_hold_memory() -> None:
    model, inputs = build(cogvideox)
    actions = np.array([[1, 1, 1], [0, 1, 2]])
    rates = {"Q": np.where(actions == Action.MEMORY, 0.5, 0.0)}
    with asymrnr.apply(model, Schedule(rates=rates, actions=actions)) as handle:
        for timestep in TIMES:
            run(model, inputs, timestep)
        memory = handle._engine.memory
        assert memory is not None
        assert [place[2] for place, kept in memory._kept.items() if kept] == [1]


def test_memory_has_the_dtype_of_the_model() -> None:
    pipeline = cogvideox_pipeline()
    pipeline.to(torch.bfloat16)
    seen: list[torch.dtype] = []
    original = Residual.tensors
    with pytest.MonkeyPatch.context() as patch, asymrnr.apply(pipeline, schedule(2, [1, 2, 2, 1], v=0.3)):
        patch.setattr(Residual, "tensors", lambda self: (seen.append(self.rest.dtype), original(self))[1])
        assert torch.isfinite(generate(pipeline)).all()
    assert seen == [torch.bfloat16] * 2


@pytest.mark.parametrize(
    "denoiser",
    [*(d for d in DENOISERS if d is not animatediff), pytest.param(animatediff, marks=pytest.mark.slow)],
    ids=lambda f: f.__name__,
)
def test_compiled_models_restore_with_memory_in_one_graph(denoiser: Denoiser) -> None:
    torch._dynamo.reset()
    model, inputs = build(denoiser)
    baseline, sites = run(model, inputs), SITES[denoiser.__name__]
    plan = schedule(sites, [1, 2, 0, 2], v=0.3)
    times = (*TIMES, 600.0)
    with asymrnr.apply(model, plan):
        eager = [run(model, inputs, t) for t in times]
    counter = CompileCounterWithBackend("eager")
    compiled: Any = torch.compile(model, fullgraph=True, backend=counter)
    with asymrnr.apply(compiled, plan) as handle:
        outputs = [run(compiled, inputs, t) for t in times]
        assert handle.summary().done[Action.MEMORY].tolist() == [[0, 1, 0, 1]] * sites
    graphs = counter.frame_count
    for output, want in zip([*outputs, run(compiled, inputs)], [*eager, baseline], strict=True):
        torch.testing.assert_close(output, want, rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("eager")
    run(torch.compile(model, fullgraph=True, backend=counter), inputs)
    assert graphs == counter.frame_count


def test_compiled_models_refuse_broadcasting() -> None:
    model, _ = build(cogvideox)
    with pytest.raises(ScheduleError, match="broadcasts, which leaves out compiled code"):
        asymrnr.apply(torch.compile(model), schedule(2, [1, 3]))
