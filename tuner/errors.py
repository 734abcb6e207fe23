"""Every error the tuner raises on purpose, with the exit code the command line ends with (design: exit codes)."""

from __future__ import annotations

from typing import ClassVar


class TunerError(Exception):
    """Base class; its message is one sentence that says what is wrong and what to do."""

    exit_code: ClassVar[int] = 1


class UsageError(TunerError):
    """The command line, a file or a value handed in is wrong."""

    exit_code = 2


class InfeasibleError(TunerError):
    """No schedule can reach the target speed-up on this model and machine."""

    exit_code = 3


class QualityGateError(TunerError):
    """The tuned videos are worse than the quality gates allow."""

    exit_code = 4


class NonFiniteError(QualityGateError):
    """The denoiser produced NaN or infinity with a schedule."""


class NoisyMeasurementError(TunerError):
    """Timings scatter too much to decide anything; measure again on a quieter machine."""

    exit_code = 5


class EnvironmentMismatchError(TunerError):
    """The machine, software or workload differs from what the data at hand was measured with."""

    exit_code = 6


class BudgetExhaustedError(TunerError):
    """The next piece of work would exceed the budget of generations."""

    exit_code = 7


class WorseError(TunerError):
    """An artifact claims less than the one it is compared with, beyond what both are unsure of."""

    exit_code = 8


class FleetError(TunerError):
    """Of several runs, some have no certificate; each one's own exit code is in the summary."""

    exit_code = 9
