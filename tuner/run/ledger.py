"""The budget, counted in inference equivalents (IE): wall time / time of one unaccelerated generation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tuner.errors import BudgetExhaustedError, UsageError

_ROUNDING = 1e-9


@dataclass
class _Stage:
    seconds: float = 0.0
    charges: int = 0
    reserved_ie: float = 0.0
    seconds_when_reserved: float = 0.0


class Ledger:
    """Charges every device action to a stage and refuses work that the budget does not cover.

    Seconds may be charged before the length of one generation is known; they count as soon as it is. A reservation
    keeps IE back for a later stage: other stages cannot spend it, and what the stage itself is charged uses it up.
    """

    def __init__(self, budget_ie: float, unit_seconds: float | None = None) -> None:
        """Start a ledger.

        Args:
            budget_ie: what may be spent, in unaccelerated generations.
            unit_seconds: wall time of one unaccelerated generation, where already known.

        Raises:
            UsageError: a value is not a positive number.
        """
        self.budget_ie = _positive("budget", budget_ie)
        self._unit: float | None = None
        self._stages: dict[str, _Stage] = {}
        if unit_seconds is not None:
            self.unit_seconds = unit_seconds

    @property
    def unit_seconds(self) -> float | None:
        """Wall time of one unaccelerated generation in seconds; None until measured. A later, better value replaces it.

        Raises:
            UsageError: it is set to something that is not a positive number.
        """
        return self._unit

    @unit_seconds.setter
    def unit_seconds(self, seconds: float) -> None:
        self._unit = _positive("time of one generation", seconds)

    def charge(self, stage: str, seconds: float) -> None:
        """Record work already done; never refuses, because the time is spent.

        Raises:
            UsageError: the seconds are negative or not a finite number.
        """
        if not (math.isfinite(seconds) and seconds >= 0):
            raise UsageError(f"A charge of {seconds} seconds to stage '{stage}' is not a duration.")
        entry = self._stages.get(stage, _Stage())
        if not entry.charges:  # a reservation is no use yet
            self._stages.pop(stage, None)
            self._stages[stage] = entry
        entry.seconds += float(seconds)
        entry.charges += 1

    @property
    def spent_ie(self) -> float:
        """IE charged so far; 0 while the time of one generation is unknown."""
        return sum(self._ie(entry.seconds) for entry in self._stages.values())

    @property
    def reserved_ie(self) -> float:
        """IE kept back for stages that have not used them yet."""
        return sum(self._outstanding(entry) for entry in self._stages.values())

    @property
    def remaining_ie(self) -> float:
        """IE that are neither spent nor reserved; negative after an overrun."""
        return self.budget_ie - self.spent_ie - self.reserved_ie

    def reserve(self, stage: str, ie: float) -> None:
        """Keep IE back for a stage, in place of an earlier reservation of that stage.

        Raises:
            BudgetExhaustedError: there are not that many left.
            UsageError: the amount is not a positive number.
        """
        _positive(f"reservation for stage '{stage}'", ie)
        self.check(ie, stage)
        entry = self._stages.setdefault(stage, _Stage())
        entry.reserved_ie = float(ie)
        entry.seconds_when_reserved = entry.seconds

    def release(self, stage: str) -> None:
        """Give back what is left of a stage's reservation; nothing happens where there is none."""
        if stage in self._stages:
            self._stages[stage].reserved_ie = 0.0

    def check(self, ie: float, stage: str) -> None:
        """Ask before work: may this stage spend so many IE, its own reservation included?

        Raises:
            BudgetExhaustedError: no; nothing has been spent by asking.
        """
        entry = self._stages.get(stage)
        available = self.remaining_ie + (self._outstanding(entry) if entry else 0.0)
        if ie > available + _ROUNDING:
            held = f", {self.reserved_ie:.2f} reserved" if self.reserved_ie > 0 else ""
            raise BudgetExhaustedError(
                f"Stage '{stage}' needs {ie:.2f} generations, but only {max(available, 0.0):.2f} of the budget of "
                f"{self.budget_ie:g} are left for it ({self.spent_ie:.2f} spent{held}); raise --budget."
            )

    def rows(self) -> list[dict[str, Any]]:
        """What each stage was charged, in order of first use: stage, seconds, ie (None if unknown) and charges."""
        return [
            {
                "stage": stage,
                "seconds": round(entry.seconds, 6),
                "ie": None if self._unit is None else round(self._ie(entry.seconds), 6),
                "charges": entry.charges,
            }
            for stage, entry in self._stages.items()
            if entry.charges
        ]

    def _ie(self, seconds: float) -> float:
        return 0.0 if self._unit is None else seconds / self._unit

    def _outstanding(self, entry: _Stage) -> float:
        return max(0.0, entry.reserved_ie - self._ie(entry.seconds - entry.seconds_when_reserved))


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise UsageError(f"The {name} is {value}; give a positive number.")
    return float(value)
