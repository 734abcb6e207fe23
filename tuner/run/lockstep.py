"""Runs two pieces of work in turn inside one thread, so that both meet the same moments of the machine.

Every thread brings its own team of torch workers, and two teams disturb each other, so the two hand over to each other
inside one thread (`greenlet`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from greenlet import getcurrent, greenlet

Position = tuple[int, ...]
Turn = Callable[[Position], None]
"""Hands over; told how far the caller is, as a position that only grows."""


def in_lockstep(first: Callable[[Turn], Any], second: Callable[[Turn], Any]) -> tuple[Any, Any]:
    """Run both to their ends; whoever is behind goes on, and of two that are level each goes first in turn.

    Args:
        first, second: called with a function that hands over.

    Returns:
        What both returned.

    Raises:
        Exception: whatever one of them raised; the other is unwound before that.
    """
    hub = getcurrent()
    at: list[Position] = [(), ()]
    results: list[Any] = [None, None]

    def turn(who: int, position: Position) -> None:
        at[who] = position
        hub.switch()

    def work(who: int, side: Callable[[Turn], Any]) -> None:
        results[who] = side(partial(turn, who))

    sides = [greenlet(partial(work, who, side)) for who, side in enumerate((first, second))]
    leader = 0
    with torch.inference_mode():  # around both, so that the end of one does not end it for the other
        try:
            while not all(side.dead for side in sides):
                running = [who for who in (0, 1) if not sides[who].dead]
                level = len(running) == 2 and at[0] == at[1]
                who = leader if level else min(running, key=lambda who: at[who])
                if level:
                    leader = 1 - leader
                sides[who].switch()
        finally:
            for side in sides:
                if not side.dead:
                    side.throw()
    return results[0], results[1]
