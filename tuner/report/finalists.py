"""The finalists of a run, each with all speed-ups that are told of it."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.search.result import FrontierPoint
from tuner.stages.choice import Verification


@dataclass(frozen=True)
class Finalist:
    """One schedule that was tried in a real generation.

    Attributes:
        name: by its number; those of the run-off once more.
        kind: what sets it apart from the others.
        copies: whether it fills in by copying alone; then its predicted error has a yardstick of its own.
        before: speed-up predicted before it was measured.
        pooled: speed-up predicted by the latency model as corrected with all measurements.
        measured: speed-up of its pair.
        error: predicted.
        mse: mean squared error between its video and the plain one.
    """

    name: str
    kind: str
    copies: bool
    before: float
    pooled: float
    measured: float
    error: float
    mse: float

    @property
    def place(self) -> FrontierPoint:
        """Seen with the latency model as corrected last, like the frontier."""
        return FrontierPoint(self.pooled, self.error)

    @property
    def measurement(self) -> str:
        """What the place does not say."""
        return f"; predicted {self.before:.3f}x before, measured {self.measured:.3f}x; {self.kind}"


def finalists(verification: Verification | None) -> list[Finalist]:
    """In the order in which they were measured."""
    if verification is None:
        return []
    first = verification.verified[0].pair.prompt
    kinds = list(dict.fromkeys(verified.candidate.kind for verified in verification.verified))
    return [
        Finalist(
            name=f"finalist {kinds.index(verified.candidate.kind) + 1}"
            + ("" if verified.pair.prompt == first else ", another prompt"),
            kind=verified.candidate.kind,
            copies=verified.candidate.recipe.form != "windows",
            before=verified.predicted_speedup,
            pooled=verification.model.speedup(verified.candidate.schedule),
            measured=verified.measured_speedup,
            error=verified.candidate.predicted_error,
            mse=verified.mse,
        )
        for verified in verification.verified
    ]
