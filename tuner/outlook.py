"""What a run has before it: its parts in order, and how many generations they take at the least and at the most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One part of a run.

    Attributes:
        name: for people.
        stages: that it consists of, in whatever order and number.
        least: unaccelerated generations that it takes when it goes well.
    """

    name: str
    stages: tuple[str, ...]
    least: float = 0.0


class Outlook:
    """Follows a run through its parts; without any, nothing is known."""

    def __init__(self, parts: Sequence[Part] = ()) -> None:
        self._parts = tuple(parts)
        self._at = -1
        self._spent_before = 0.0

    def enter(self, stage: str, spent: float) -> None:
        """A stage begins: of the running part where it has such a one, or else of the next part that has.

        Args:
            stage: its name; one that no part has belongs to the running one.
            spent: generations spent so far.
        """
        if self._at >= 0 and stage in self._parts[self._at].stages:
            return
        later = (i for i in range(self._at + 1, len(self._parts)) if stage in self._parts[i].stages)
        found = next(later, None)
        if found is not None:
            self._at, self._spent_before = found, spent

    def names(self) -> tuple[list[str], list[str], list[str]]:
        """The parts that are done, the one that is running, and those to come."""
        names, at = [part.name for part in self._parts], max(self._at, 0)
        return names[:at], names[at : at + 1], names[at + 1 :]

    def left(self, spent: float, budget: float) -> tuple[float, float] | None:
        """Generations still to come, at the least and at the most; None where nothing is known.

        At the least, every part goes well; at the most, the budget is used up.

        Args:
            spent: generations spent so far.
            budget: generations that may be spent in all.
        """
        if not self._parts:
            return None
        most, at = max(0.0, budget - spent), max(self._at, 0)
        running = max(0.0, self._parts[at].least - (spent - self._spent_before))
        least = running + sum(part.least for part in self._parts[at + 1 :])
        return min(least, most), most
