"""What attention modules take around their attention calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from asymrnr.observation import AttentionCall
from tuner.latency import modules
from tuner.latency.modules import ModuleClock

CPU = torch.device("cpu")


class FakeTime:
    """Seconds pass only where somebody says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(modules, "now", lambda device: self.now)

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    time = FakeTime(monkeypatch)
    monkeypatch.setattr(modules, "attention_operation", lambda backend: lambda seconds, *_: time.pass_(seconds))
    return time


class Module(nn.Module):
    """Takes some time for projections, before and after its attention calls, each of which is seen."""

    def __init__(self, time: FakeTime, clock: ModuleClock) -> None:
        super().__init__()
        self.time, self.clock, self.seen = time, clock, True

    def forward(self, rest: float, calls: Sequence[float]) -> None:
        self.time.pass_(0.75 * rest)
        for seconds in calls:
            self.time.pass_(seconds)
            if self.seen:
                self.clock.repeat(call(seconds))
        self.time.pass_(0.25 * rest)


def call(seconds: Any) -> AttentionCall:
    x = torch.zeros(1, 1, 1, 1)
    return AttentionCall(0, 1, 0.0, "", 0, (1, 1, 1), slice(0, 1), seconds, x, x, x, x)


def test_the_rest_of_a_module_is_told_apart_from_its_attention(time: FakeTime) -> None:
    clock = ModuleClock(CPU)
    module = Module(time, clock)
    end = clock.watch(0, module)
    time.pass_(8)
    module(3.0, [2.0, 4.0])
    assert clock.ratios(["a"]) == pytest.approx((0.5,))
    module(6.0, [3.0])  # on a slower machine alike: the median of both
    assert clock.ratios(["a"]) == pytest.approx((1.25,))
    end()
    module(100.0, [1.0])
    assert clock.ratios(["a"]) == pytest.approx((1.25,))
    assert not module._forward_hooks
    assert not module._forward_pre_hooks


def test_a_pace_that_changes_between_calls_cancels_out(time: FakeTime) -> None:
    clock = ModuleClock(CPU)
    module = Module(time, clock)
    clock.watch(0, module)
    for pace in (1.0, 1.4, 0.7):
        module(0.5 * pace, [2.0 * pace])
    assert clock.ratios(["a"]) == pytest.approx((0.25,))


def test_modules_of_a_kind_are_pooled(time: FakeTime) -> None:
    clock = ModuleClock(CPU)
    for block, rest in enumerate([1.0, 2.0, 40.0, 3.0, 0.5]):
        module = Module(time, clock)
        clock.watch(block, module)
        module(rest, [2.0])
    assert clock.ratios(["a", "a", "a", "b", "b"]) == pytest.approx((1.0, 1.0, 1.0, 0.875, 0.875))


def test_what_was_never_timed_is_not_made_up(time: FakeTime) -> None:
    clock = ModuleClock(CPU)
    for block in range(2):
        module = Module(time, clock)
        module.seen = block == 0  # as in the first step
        clock.watch(block, module)
        module(1.0, [2.0])
    assert clock.ratios(["a", "a"]) == pytest.approx((0.5, 0.5))
    assert clock.ratios(["a", "b"]) == ()


def test_nothing_takes_less_than_no_time(time: FakeTime) -> None:
    clock = ModuleClock(CPU)
    module = Module(time, clock)
    clock.watch(0, module)
    module(-1.0, [2.0])  # a disturbed repetition
    assert clock.ratios(["a"]) == (0.0,)


def test_the_share_of_attention_is_that_of_the_steps_it_was_timed_in(time: FakeTime) -> None:
    clock = ModuleClock(CPU)
    assert clock.attention_share(np.array([1.0])) is None
    for step, pace in enumerate((1.0, 4.0, 0.5)):  # a step of 5 at an even pace, 2 of them attention, made twice
        for seconds in (0.5, 1.5):
            clock.repeat(replace(call(pace * seconds), step=step))
    assert clock.attention_share(np.array([1.0, 4.0, 0.5]) * (5 + 2)) == pytest.approx(2 / 5)
