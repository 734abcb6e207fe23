from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tuner.run.clock import StepClock
from tuner.run.lockstep import Position

CPU = torch.device("cpu")


class FakeTime:
    """Seconds pass only by `pass_`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("tuner.run.clock.time", SimpleNamespace(perf_counter=lambda: self.now))

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    return FakeTime(monkeypatch)


def test_steps_begin_with_the_first_call_and_end_with_the_callback(time: FakeTime) -> None:
    clock = StepClock(CPU)
    time.pass_(8)  # text encoder
    for seconds in (1, 2, 3):
        clock.begin_steps()
        time.pass_(seconds)
        clock.begin_steps()  # guidance calls the denoiser again
        time.pass_(0.25)
        clock.end_step()
    time.pass_(16)  # decoder
    clock.stop()
    assert clock.step_seconds.tolist() == [1.25, 2.25, 3.25]
    assert clock.seconds == 8 + 6.75 + 16


def test_the_turn_of_another_counts_nowhere(time: FakeTime) -> None:
    turns: list[Position] = []

    def turn(position: Position) -> None:
        turns.append(position)
        time.pass_(100)

    clock = StepClock(CPU, turn)
    time.pass_(4)
    for step in range(3):
        clock.begin_steps()
        time.pass_(1)
        clock.hand_over((step, 1, 0))
        time.pass_(1)
        clock.end_step()
        clock.hand_over((step + 1, 0, 0))
    time.pass_(2)
    clock.stop()
    assert clock.step_seconds.tolist() == [2, 2, 2]
    assert clock.seconds == 4 + 6 + 2
    assert turns == [(0, 1, 0), (1, 0, 0), (1, 1, 0), (2, 0, 0), (2, 1, 0), (3, 0, 0)]


def test_without_another_there_is_nobody_to_hand_over_to(time: FakeTime) -> None:
    clock = StepClock(CPU)
    clock.begin_steps()
    time.pass_(1)
    clock.hand_over((0, 1, 0))
    time.pass_(1)
    clock.end_step()
    assert np.array_equal(clock.step_seconds, [2])
