"""What an artifact claims of each of its schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from asymrnr.artifact import Artifact
from asymrnr.sections import Judged

Verdict = Literal["certified", "refused", "predicted"]


@dataclass(frozen=True)
class Estimate:
    """A value and how sure it is.

    Attributes:
        value: the point estimate.
        half_width: from it to its 95 % bound; infinite where there is none.
    """

    value: float
    half_width: float


@dataclass(frozen=True)
class Claim:
    """What is said of one schedule.

    Attributes:
        target: denoising speed-up it was made for; None for schedules that were not tuned.
        verdict: all gates passed, one failed, or nothing was measured.
        failed: names of the gates that failed.
        log_speedup: natural logarithm of the denoising speed-up measured, with its one-sided bound.
        predicted: denoising speed-up that the latency model expects; None where it was not asked.
        psnr: in dB to the unaccelerated videos, with its two-sided interval; None where it was not measured.
        pairs: held-out pairs behind it.
    """

    target: float | None
    verdict: Verdict
    failed: tuple[str, ...] = ()
    log_speedup: Estimate | None = None
    predicted: float | None = None
    psnr: Estimate | None = None
    pairs: int = 0

    @property
    def name(self) -> str:
        """How a table calls it."""
        return "as it is" if self.target is None else f"{self.target:g}x"

    @property
    def speedup(self) -> str:
        """Measured, with its bound, or predicted."""
        if self.log_speedup is None:
            return "-" if self.predicted is None else f"{self.predicted:.3f}x predicted"
        point, half = self.log_speedup.value, self.log_speedup.half_width
        bound = f", at least {math.exp(point - half):.3f}x" if math.isfinite(half) else ", n = 1"
        return f"{math.exp(point):.3f}x{bound}"

    @property
    def quality(self) -> str:
        """PSNR with its interval."""
        if self.psnr is None:
            return "-"
        half = f" ± {self.psnr.half_width:.1f}" if math.isfinite(self.psnr.half_width) else ""
        return f"{self.psnr.value:.1f}{half} dB"


def claims(artifact: Artifact) -> list[Claim]:
    """What the artifact claims of all its schedules, slowest first."""
    return [_claim(each) for each in schedules(artifact)]


def schedules(artifact: Artifact) -> list[Judged]:
    """All its schedules with what is known of them, slowest first; the only one where none was made for a speed-up."""
    points: list[Judged] = [*artifact.points()]
    return points or [artifact]


def _claim(judged: Judged) -> Claim:
    predicted = None if judged.prediction is None else judged.prediction.speedup
    evidence = judged.evidence
    if evidence is None:
        return Claim(judged.target, "predicted", predicted=predicted)
    failed = tuple(gate.name for gate in judged.gates if gate.verdict == "FAIL")
    point, bound = evidence.speedup.point, evidence.speedup.lower_bound_95
    psnr = evidence.quality.get("psnr")
    return Claim(
        target=judged.target,
        verdict="certified" if judged.proven else "refused",
        failed=failed,
        log_speedup=Estimate(math.log(point), math.inf if bound is None else math.log(point / bound)),
        predicted=predicted,
        psnr=None if psnr is None else Estimate(psnr.value, _half_width(psnr.low, psnr.high)),
        pairs=len(evidence.seeds),
    )


def _half_width(low: float | None, high: float | None) -> float:
    return math.inf if low is None or high is None else (high - low) / 2
