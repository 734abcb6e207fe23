"""Measurements as values: what is asked for, and what any place that makes them has to do; nothing here measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from tuner.run.store import key_hash

Made = tuple[dict[str, Any], dict[str, np.ndarray]]
"""Values and arrays of a finished measurement, as the store keeps them."""
Told = Callable[[float, float, str], None]
"""Is told (done, total, detail) while a measurement is made."""


def silent(done: float, total: float, detail: str = "") -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Job:
    """One measurement to be made.

    Attributes:
        key: what is measured, on which weights, under which settings: its name in every store. Equal keys are one
            measurement, wherever it is made.
        work: what making it needs beyond that, such as the schedule of which the key has the hash; plain JSON values.
    """

    key: Mapping[str, Any]
    work: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        kind: str = self.key["kind"]
        return kind

    @cached_property
    def key_hash(self) -> str:
        return key_hash(self.key)


@dataclass(frozen=True)
class Request:
    """A job that somebody asks for.

    Attributes:
        stage: line of the ledger.
        job: what is wanted.
        expected_ie: what it is expected to cost, in unaccelerated generations.
    """

    stage: str
    job: Job
    expected_ie: float = 0.0


class Source(Protocol):
    """Where measurements come from: this process, or workers elsewhere.

    Attributes:
        width: how many measurements are made at the same time.
    """

    width: int

    def make(self, jobs: Sequence[Job], keep: Callable[[Job, Made | Exception], None], told: Told = silent) -> None:
        """Make measurements, in whatever order; returns when all are made.

        Args:
            jobs: what is wanted.
            keep: given each as soon as it is made, or the error that making it ended in.
            told: progress.
        """
        ...

    def close(self) -> None:
        """Give back whatever it holds; nothing can be made afterwards."""
        ...
