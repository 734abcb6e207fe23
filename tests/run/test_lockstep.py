from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from tuner.run.lockstep import Position, Turn, in_lockstep

Trace = list[tuple[str, Position]]


def walker(name: str, positions: Sequence[Position], trace: Trace) -> Callable[[Turn], str]:
    """Goes through positions, handing over at each."""

    def walk(turn: Turn) -> str:
        for position in positions:
            trace.append((name, position))
            turn(position)
        trace.append((name, ()))
        return name

    return walk


def test_whoever_is_behind_goes_on() -> None:
    trace: Trace = []
    first = walker("a", [(1, 0), (2, 0), (3, 0), (5, 0)], trace)
    second = walker("b", [(0, 7), (0, 9), (3, 0), (4, 0)], trace)
    in_lockstep(first, second)
    assert trace == [
        ("a", (1, 0)),
        ("b", (0, 7)),
        ("b", (0, 9)),
        ("b", (3, 0)),
        ("a", (2, 0)),
        ("a", (3, 0)),
        ("b", (4, 0)),  # level, and the other's turn to lead
        ("a", (5, 0)),
        ("b", ()),
        ("a", ()),
    ]


def test_of_two_level_ones_each_leads_in_turn() -> None:
    trace: Trace = []
    in_lockstep(*(walker(name, [(step,) for step in range(1, 5)], trace) for name in "ab"))
    assert "".join(name for name, _ in trace) == "abbaabbaab"


def test_both_results_are_returned() -> None:
    assert in_lockstep(walker("a", [(1,)], []), walker("b", [(1,), (2,)], [])) == ("a", "b")
    assert in_lockstep(lambda turn: 1, lambda turn: None) == (1, None)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([], [(step,) for step in range(1, 9)]),
        ([(step,) for step in range(1, 9)], []),
        ([(step,) for step in range(1, 9)], [(2,), (7,)]),
        ([(1, 0), (1, 3), (2, 0)], [(1, 0), (1, 1), (1, 2), (1, 3), (1, 4), (2, 0), (2, 1)]),
    ],
)
def test_sides_of_different_length_end(first: list[Position], second: list[Position]) -> None:
    trace: Trace = []
    assert in_lockstep(walker("a", first, trace), walker("b", second, trace)) == ("a", "b")
    assert [at for name, at in trace if name == "a"] == [*first, ()]
    assert [at for name, at in trace if name == "b"] == [*second, ()]


@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_propagates_and_the_other_side_is_unwound(failing: int, error: type[BaseException]) -> None:
    unwound: list[str] = []

    @contextmanager
    def noted() -> Iterator[None]:
        try:
            yield
        finally:
            unwound.append("with")

    def fails(turn: Turn) -> None:
        turn((1,))
        raise error("broken")

    def waits(turn: Turn) -> None:
        with noted():
            try:
                for step in range(1, 9):
                    turn((step,))
            except Exception:
                unwound.append("an ordinary handler")
            finally:
                unwound.append("finally")

    sides: list[Callable[[Turn], Any]] = [fails, waits] if failing == 0 else [waits, fails]
    with pytest.raises(error, match="broken"):
        in_lockstep(*sides)
    assert unwound == ["finally", "with"]


def test_a_side_that_has_not_begun_never_begins_when_the_other_fails() -> None:
    begun: list[int] = []

    def fails(turn: Turn) -> None:
        raise ValueError("at once")

    with pytest.raises(ValueError, match="at once"):
        in_lockstep(fails, lambda turn: begun.append(1))
    assert begun == []


def modes() -> tuple[bool, bool]:
    return torch.is_inference_mode_enabled(), torch.is_grad_enabled()


@pytest.mark.parametrize("short", [0, 1])
def test_inference_mode_stays_on_for_the_side_that_ends_later(short: int) -> None:
    seen: list[tuple[bool, bool]] = []

    def side(steps: int) -> Callable[[Turn], None]:
        def run(turn: Turn) -> None:
            with torch.inference_mode(), torch.no_grad():
                for step in range(1, steps + 1):
                    turn((step,))
                    seen.append(modes())

        return run

    in_lockstep(*(side(2 if who == short else 5) for who in (0, 1)))
    assert seen == [(True, False)] * 7
    assert modes() == (False, True)


@pytest.mark.parametrize("failing", [0, 1])
def test_an_exception_leaves_inference_mode_as_it_was(failing: int) -> None:
    def fails(turn: Turn) -> None:
        with torch.inference_mode():
            turn((1,))
            raise ValueError

    def waits(turn: Turn) -> None:
        with torch.inference_mode(), torch.no_grad():
            turn((1,))
            turn((2,))

    with torch.inference_mode(False):  # whatever happens here ends here
        with pytest.raises(ValueError, match=r"^$"):
            in_lockstep(*((fails, waits) if failing == 0 else (waits, fails)))
        assert modes() == (False, True)
