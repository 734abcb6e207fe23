"""What a worker shares with others, if it does; nothing of a database is known here."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from tuner.run.job import Job, Made
from tuner.run.store import MeasurementStore


class ElsewhereError(Exception):
    """Somebody else is making this measurement."""


class Sharing(Protocol):
    """Measurements that others make as well."""

    def find(self, job: Job) -> Made | None:
        """What others measured; None where there is nothing, or they are out of reach."""
        ...

    def claimed(self, job: Job) -> AbstractContextManager[None]:
        """Work that others are kept from while it gives signs of life.

        Raises:
            ElsewhereError: somebody else is at it.
        """
        ...

    def deliver(self, log: MeasurementStore) -> int:
        """Hand over what others do not have of a log; returns how many measurements they still miss."""
        ...

    def forget(self, hashes: Sequence[str]) -> None:
        """Have measurements made again, by whoever needs them."""
        ...

    def close(self) -> None:
        """Nothing is shared any more."""
        ...
