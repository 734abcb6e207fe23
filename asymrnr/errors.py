"""Every error this package raises on purpose. Each message is one sentence that says what is wrong and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


DEEPEST = 8  # parts of a place that are named


class AsymRnRError(Exception):
    """Base class of all errors raised on purpose."""


class ScheduleError(AsymRnRError):
    """A schedule is malformed, does not fit the model or workload, or did not do what it says."""


class InterceptionError(AsymRnRError):
    """The model's attention calls cannot be intercepted, or were not."""


class ArtifactError(AsymRnRError):
    """An artifact is missing, damaged, of an unknown version, or does not fit where it is to be used."""


def first_of(error: ValidationError) -> str:
    """What is wrong with values, and where, in a clause: the first of pydantic's findings."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(f"{part!s:.60}" for part in first["loc"][:DEEPEST]) or "it"
    return f"{where}: {first['msg'].removeprefix('Value error, ').rstrip('.'):.300}"
