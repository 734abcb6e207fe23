"""What a run has found so far, and what a finished one hands over."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from asymrnr.artifact import Artifact, Point
from tuner.context import Context, TuneOptions
from tuner.stages.certify import Certification
from tuner.stages.choice import Verification
from tuner.stages.compare import Compared
from tuner.stages.health import with_health
from tuner.stages.preflight import Preflight
from tuner.stages.profile import Profiled


@dataclass
class Findings:
    """What a run has found so far; None for what it has not reached.

    Attributes:
        early: the latency model before whole generations.
        profiled: the profile.
        verification: the finalists and what they were chosen by.
        noise_floor: what another seed changes in the model's videos.
        certification: the best evidence: a certificate, or else the last refusal.
        further: the same for every further target that was asked for, in their order, with the error that one ended in.
        between: schedules for speed-ups between the certified ones, predicted.
        compared: what diffusers' own caches give, where that was asked for.
        artifact, path: what was saved, and where.
        inert: why the best schedule so far is of no use and was not saved; None for one that is.
        error: what ended the run without a certificate.
    """

    early: Preflight | None = None
    profiled: Profiled | None = None
    verification: Verification | None = None
    noise_floor: float | None = None
    certification: Certification | None = None
    further: list[Findings] = field(default_factory=list)
    between: list[Point] = field(default_factory=list)
    compared: list[Compared] = field(default_factory=list)
    artifact: Artifact | None = None
    path: Path | None = None
    inert: str | None = None
    error: BaseException | None = field(default=None, repr=False)

    def certified(self, options: TuneOptions) -> dict[float, Findings]:
        """What was found for every target that was certified, slowest first."""
        every = zip((options.target_speedup, *options.also), (self, *self.further), strict=False)
        return {
            target: found
            for target, found in sorted(every, key=lambda each: each[0])
            if found.certification is not None and found.certification.certified
        }

    @property
    def healthy(self) -> Certification | None:
        """The certification with the checks of what it was found by, where that is known."""
        if self.profiled is None or self.verification is None or self.certification is None:
            return self.certification
        return with_health(self.profiled, self.verification, self.certification)


@dataclass(frozen=True)
class Outcome:
    """A finished run: what it found, its report, and the run's tools for summaries."""

    findings: Findings
    report: Path | None
    ctx: Context
