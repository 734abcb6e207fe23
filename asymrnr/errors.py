"""Every error this package raises on purpose. Each message is one sentence that says what is wrong and what to do."""

from __future__ import annotations


class AsymRnRError(Exception):
    """Base class of all errors raised on purpose."""


class ScheduleError(AsymRnRError):
    """A schedule is malformed, does not fit the model or workload, or did not do what it says."""


class InterceptionError(AsymRnRError):
    """The model's attention calls cannot be intercepted, or were not."""


class ArtifactError(AsymRnRError):
    """An artifact is missing, damaged, of an unknown version, or does not fit where it is to be used."""
