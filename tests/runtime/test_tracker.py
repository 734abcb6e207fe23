from __future__ import annotations

import pytest

from asymrnr.tracker import StepTracker

Call = tuple[float, str | None, int | None]


def follow(calls: list[Call]) -> list[tuple[int, int, str]]:
    tracker = StepTracker()
    seen = []
    for call in calls:
        tracker.observe(*call)
        seen.append((tracker.generation, tracker.step, tracker.branch))
    return seen


def test_sequential_guidance_with_and_without_names() -> None:
    named = follow([(9, "cond", None), (9, "uncond", None), (5, "cond", None), (5, "uncond", None)])
    assert named == [(0, 0, "cond"), (0, 0, "uncond"), (0, 1, "cond"), (0, 1, "uncond")]
    assert follow([(9, None, None)] * 2 + [(5, None, None)] * 2) == [
        (0, 0, "call0"),
        (0, 0, "call1"),
        (0, 1, "call0"),
        (0, 1, "call1"),
    ]


@pytest.mark.parametrize("times", [[9.0, 6.0, 3.0], [0.0, 0.4, 0.8]])  # Mochi counts up
def test_reversed_direction_is_a_new_generation(times: list[float]) -> None:
    seen = follow([(t, "x", None) for t in times + times])
    assert [entry[:2] for entry in seen] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_second_order_schedulers_repeat_timesteps() -> None:
    assert [s for _, s, _ in follow([(9, "x", None), (5, "x", None), (5, "x", None), (2, "x", None)])] == [0, 1, 2, 3]


def test_announced_step_index_wins() -> None:
    calls: list[Call] = [(9, "cond", 0), (9, "uncond", 0), (7, "cond", 2), (9, "cond", 0), (9, "cond", 0)]
    assert [entry[:2] for entry in follow(calls)] == [(0, 0), (0, 0), (0, 2), (1, 0), (2, 0)]


def test_new_generation_on_request() -> None:
    tracker = StepTracker()
    tracker.observe(9)
    tracker.observe(5)
    tracker.new_generation()
    tracker.observe(3)  # would have continued
    assert (tracker.generation, tracker.step) == (1, 0)
