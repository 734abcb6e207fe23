"""Small generations agree with the reference at every attention call, and broadcasts with the refresh bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import asymrnr
from asymrnr import Action, Schedule
from tests.runtime.memory_oracle import expected, recorded
from tests.runtime.test_models import SITES
from tests.runtime.tiny import RELATIVES, Inputs, allegro, animatediff, build, cogvideox, hunyuan, ltx, mochi, run, wan

TIMES = (900.0, 800.0, 700.0, 600.0, 500.0)
DONE = (Action.REFRESH, Action.MEMORY, Action.BROADCAST)
# Even blocks: copying, then memory and broadcasting after the same refresh. Odd ones: broadcasting first.
EVEN, ODD = ([0, 1, 2, 3, 2], [1, 3, 1, 2, 0])
Q = ([0.3, 0, 0.6, 0, 0.6], [0, 0, 0, 0.5, 0.4])
V = ([0, 0, 0.5, 0, 0.5], [0, 0, 0, 0, 0.3])


def alike() -> tuple[nn.Module, Inputs]:
    """Batch items that only their order tells apart."""
    model, inputs = mochi()
    return model, {**inputs, "encoder_attention_mask": torch.ones(2, 7)}


def mixed(sites: int, **settings: Any) -> Schedule:
    q, v, actions = (np.array([pair[site % 2] for site in range(sites)]) for pair in (Q, V, (EVEN, ODD)))
    return Schedule(rates={"Q": q, "V": v}, actions=actions, **settings)


@pytest.mark.parametrize(
    ("denoiser", "settings"),
    [
        (cogvideox, {}),
        (cogvideox, {"reduction": "mean", "metric": "cosine", "seed": 3}),
        (mochi, {}),
        (alike, {}),
        (hunyuan, {"reduction": "mean"}),
        (wan, {"stride": (1, 2, 2)}),
        *((denoiser, {}) for denoiser in RELATIVES),
        (ltx, {"coverage": "paper"}),
        (allegro, {}),
        pytest.param(animatediff, {}, marks=pytest.mark.slow),
    ],
    ids=lambda value: value.__name__ if callable(value) else ",".join(value) or "plain",
)
def test_every_step(denoiser: Callable[[], tuple[nn.Module, Inputs]], settings: dict[str, Any]) -> None:
    model, inputs = build(denoiser)
    plain, sites = run(model, inputs), (SITES | {"alike": 3})[denoiser.__name__]
    schedule = mixed(sites, **settings)
    assert schedule.actions is not None
    with recorded(model) as seen, asymrnr.apply(model, schedule) as handle:
        for timestep in TIMES:
            varied = {k: v * (1 + timestep / 5e3) if k in ("hidden_states", "sample") else v for k, v in inputs.items()}
            run(model, varied, timestep)
        summary = handle.summary()
    for action in DONE:
        assert np.array_equal(summary.done[action], schedule.actions == action)
        assert np.array_equal(summary.planned_actions[action], schedule.actions == action)
    for feature, rates in schedule.rates.items():
        assert np.array_equal(summary.reduced[feature], rates > 0)
    checked = 0
    for call, want in expected(schedule, seen.calls):
        shown = ~call.hidden[:, None, :, None] | np.zeros_like(want, dtype=bool)
        np.testing.assert_allclose(call.output[shown], want[shown], atol=2e-5)
        checked += 1
    items = 2 if denoiser in (mochi, alike) else 1
    assert checked == items * int((schedule.actions != Action.BROADCAST).sum())
    for block, step in np.argwhere(schedule.actions == Action.BROADCAST):
        refresh = int(np.flatnonzero(schedule.actions[block, :step] == Action.REFRESH).max())
        given, kept = (seen.modules[at, "call0", int(block)] for at in (step, refresh))
        assert len(given) == len(kept)
        assert all(map(torch.equal, given, kept))
    assert torch.equal(run(model, inputs), plain)


@pytest.mark.parametrize("denoiser", [cogvideox, mochi, hunyuan, wan])
def test_in_8_bits_it_is_off_by_at_most_half_a_step_of_every_row(
    denoiser: Callable[[], tuple[nn.Module, Inputs]],
) -> None:
    model, inputs = build(denoiser)
    sites = SITES[denoiser.__name__]
    held = {}
    for storage in ("model", "int8"):
        schedule = mixed(sites, storage=storage)
        assert schedule.actions is not None
        with recorded(model) as seen, asymrnr.apply(model, schedule) as handle:
            for timestep in TIMES:
                varied = {
                    k: v * (1 + timestep / 5e3) if k in ("hidden_states", "sample") else v for k, v in inputs.items()
                }
                run(model, varied, timestep)
            held[storage] = handle.summary().memory_bytes
    off = []
    for call, want in expected(schedule, seen.calls):
        if schedule.actions[call.block, call.step] == Action.MEMORY:
            shown = ~call.hidden[:, None, :, None] | np.zeros_like(want, dtype=bool)
            largest = 2 * np.abs(want).max()  # of what was wrong: outputs are averages of the same values
            np.testing.assert_allclose(call.output[shown], want[shown], atol=largest / 254 + 2e-5)
            off.append(np.abs(call.output - want)[shown].max())
    assert max(off) > 2e-5
    for block, step in np.argwhere(schedule.actions == Action.BROADCAST):
        refresh = int(np.flatnonzero(schedule.actions[block, :step] == Action.REFRESH).max())
        given, kept = (seen.modules[at, "call0", int(block)] for at in (step, refresh))
        for now, then in zip(given, kept, strict=True):
            half = then.abs().amax(dim=-1, keepdim=True) / 254 * (1 + 1e-4)
            assert ((now - then).abs() <= half).all()
            assert not torch.equal(now, then)
    assert held["int8"] < held["model"]
