"""What a run has found so far, and what a finished one hands over."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from asymrnr.artifact import Artifact
from tuner.context import Context
from tuner.stages.certify import Certification
from tuner.stages.compare import Compared
from tuner.stages.preflight import Preflight
from tuner.stages.profile import Profiled
from tuner.stages.verify import Verification


@dataclass
class Findings:
    """What a run has found so far; None for what it has not reached.

    Attributes:
        early: the latency model before whole generations.
        profiled: the profile.
        verification: the finalists and what they were chosen by.
        noise_floor: what another seed changes in the model's videos.
        certification: the best evidence: a certificate, or else the last refusal.
        compared: what diffusers' own caches give, where that was asked for.
        artifact, path: what was saved, and where.
        error: what ended the run without a certificate.
    """

    early: Preflight | None = None
    profiled: Profiled | None = None
    verification: Verification | None = None
    noise_floor: float | None = None
    certification: Certification | None = None
    compared: list[Compared] = field(default_factory=list)
    artifact: Artifact | None = None
    path: Path | None = None
    error: BaseException | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Outcome:
    """A finished run: what it found, its report, and the run's tools for summaries."""

    findings: Findings
    report: Path | None
    ctx: Context
