"""Nothing in a step waits for the device: run on tensors that hold no numbers, where reading one is an error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import asymrnr
from asymrnr.actions import Action
from asymrnr.call import Call
from asymrnr.partition import make_partition
from asymrnr.reduction import Match, _gather_in_order, gather_tokens
from asymrnr.schedule import Schedule
from tests.runtime.tiny import Inputs, allegro, build, cogvideox, hunyuan, ltx, wan

STEPS = 4


def to_meta(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to("meta")
    return tuple(map(to_meta, value)) if isinstance(value, tuple) else value


def copying(blocks: int, **how: Any) -> Schedule:
    tables = {"Q": np.full((blocks, STEPS), 0.6), "V": np.full((blocks, STEPS), 0.4)}
    tables["Q"][:, 1] = 0.3  # another rate within a window
    return Schedule(tables, stride=(1, 2, 2), cache_step=2, **how)


def acting(blocks: int, rate_v: float = 0.0, **how: Any) -> Schedule:
    actions = np.zeros((blocks, STEPS), dtype=np.int8)
    actions[:, 0], actions[:, 1], actions[:, 2] = Action.REFRESH, Action.MEMORY, Action.BROADCAST
    rates = {name: np.zeros((blocks, STEPS)) for name in "QV"}
    rates["Q"][:, 1], rates["V"][:, 1] = 0.6, rate_v
    return Schedule(rates, actions=actions, stride=(1, 2, 2), **how)


SCHEDULES: dict[str, Callable[[int], Schedule]] = {
    "copying": copying,
    "mean": lambda blocks: copying(blocks, reduction="mean"),
    "cosine": lambda blocks: copying(blocks, metric="cosine"),
    "memory": acting,
    "memory of V": lambda blocks: acting(blocks, 0.4),
    "memory in 8 bits": lambda blocks: acting(blocks, storage="int8"),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("denoiser", [cogvideox, wan, ltx, allegro, hunyuan])
def test_steps_run_without_reading_a_number(
    denoiser: Callable[[], tuple[nn.Module, Inputs]], schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs = build(denoiser)
    inputs = {name: to_meta(value) for name, value in inputs.items()}
    model = model.to("meta")
    monkeypatch.setattr("asymrnr.install._value_of", lambda timestep, _: timestep)
    blocks = 4 if denoiser is hunyuan else 2
    with asymrnr.apply(model, SCHEDULES[schedule](blocks)) as handle, torch.no_grad():
        for step in range(STEPS):
            monkeypatch.setattr("asymrnr.install._value_of", lambda *_, now=900.0 - step: now)
            model(**inputs, timestep=torch.empty(2, device="meta"), return_dict=False)
        assert sum(table.sum() for table in handle.summary().reduced.values()) > 0


def test_reading_a_number_would_be_an_error() -> None:
    """Of such a tensor."""
    x = torch.ones(3, device="meta")
    for read in (x.sum().item, x.nonzero, x.cpu, x.tolist, lambda: bool(x[0] > 0)):
        with pytest.raises((RuntimeError, NotImplementedError)):
            read()


def test_what_is_dropped_is_found_without_counting() -> None:
    features = torch.randn(2, 3, 4 * 6 * 6, 8)
    plan = Match.of(features, make_partition((4, 6, 6), (2, 2, 2))).plan(0.6).joint(5, 2)
    found = plan.dropped()
    assert found.dtype == torch.int32
    for item in range(2):
        for head in range(3):
            kept = set(plan.take[item, head].tolist())
            assert found[item, head].tolist() == [t for t in range(plan.back.shape[-1]) if t not in kept]


def test_timesteps_that_are_views_of_the_schedulers_are_known() -> None:
    from types import SimpleNamespace

    from asymrnr.install import _value_of

    given = torch.tensor([999.0, 750.0, 500.0, 250.0])
    engine: Any = SimpleNamespace(timesteps=(given, [1.0, 2.0, 3.0, 4.0]))  # others than there are, to tell them apart
    assert [_value_of(t.expand(2), engine) for t in given] == [1.0, 2.0, 3.0, 4.0]
    engine.timesteps = (given[1:], [2.0, 3.0, 4.0])
    assert _value_of(given[2], engine) == 3.0
    assert _value_of(given[0], engine) == 999.0  # not one of them
    assert _value_of(given[1:3], engine) == 750.0  # several, of which the largest counts
    assert _value_of(given[2].clone(), engine) == 500.0
    assert _value_of(12, engine) == 12.0


@pytest.mark.parametrize("tokens_first", [False, True])
def test_gathered_tokens_keep_the_order_of_the_axes_in_memory(tokens_first: bool) -> None:
    x = torch.randn(2, 40, 3, 8).transpose(1, 2) if tokens_first else torch.randn(2, 3, 40, 8)
    index = torch.randint(0, 40, (2, 3, 11), dtype=torch.int32)
    found = _gather_in_order(x, index)
    assert torch.equal(found, gather_tokens(x, index))
    assert (found.transpose(1, 2) if tokens_first else found).is_contiguous()
    on_the_device = gather_tokens(x.to("meta"), index.to("meta"))
    assert on_the_device.stride() == found.stride()


def test_attention_is_given_what_is_contiguous_in_its_own_order(monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = build(wan)
    monkeypatch.setattr("asymrnr.install._value_of", lambda *_: 900.0)
    given: list[bool] = []
    original = Call.reduced

    def reduced(call: Call, *rest: Any) -> torch.Tensor:
        def attention(*tensors: torch.Tensor | None) -> torch.Tensor:
            given.extend(x.is_contiguous() for x in tensors[:3] if x is not None)
            return call.attention(*tensors)  # type: ignore[arg-type]

        return original(replace(call, attention=attention), *rest)

    monkeypatch.setattr(Call, "reduced", reduced)
    inputs = {name: to_meta(value) for name, value in inputs.items()}
    with asymrnr.apply(model.to("meta"), copying(2)), torch.no_grad():
        model(**inputs, timestep=torch.empty(2, device="meta"), return_dict=False)
    assert given
    assert all(given)
