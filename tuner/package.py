"""Puts everything a run found into one artifact."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import numpy as np

from asymrnr.artifact import (
    Artifact,
    EvidenceSection,
    GateSection,
    Interval,
    LedgerRow,
    ModelSection,
    PredictionSection,
    ProvenanceSection,
    ScheduleSection,
    SimilaritySection,
    Speedup,
    WorkloadSection,
)
from asymrnr.artifact_io import load_artifact
from asymrnr.shipped import load_shipped
from tuner.certify.protocol import Certification
from tuner.certify.verify import Verification
from tuner.profile.profile import Profile
from tuner.profile.similarity import PERCENTILES
from tuner.profile.stage import Profiled
from tuner.run.context import Context
from tuner.run.identity import environment
from tuner.run.workload import describe_workload


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def file_name(target: float) -> str:
    """Name of the artifact for one target, for example `x1.30.json`."""
    return f"x{target:.2f}.json"


def read_artifact(schedule: str, model: str) -> Artifact:
    """An artifact file, or a shipped target of the model.

    Raises:
        ArtifactError: there is none, or it is damaged.
    """
    return load_artifact(schedule) if schedule.endswith(".json") else load_shipped(model, schedule)


def build_artifact(
    ctx: Context,
    profiled: Profiled,
    verification: Verification,
    certification: Certification | None,
    started: str,
) -> Artifact:
    """The artifact of a finished run, or of one that ended before certification.

    Args:
        ctx: the run.
        profiled: the profile the search used.
        verification: the finalist and the last search.
        certification: evidence and gates; without them the artifact is not certified.
        started: when the run began, ISO 8601.
    """
    profile, model, result = profiled.profile, verification.model, verification.result
    candidate = verification.chosen.candidate
    return Artifact(
        model=ModelSection(
            repo=ctx.entry.name,
            transformer=type(ctx.runner.denoiser).__name__,
            blocks=candidate.schedule.blocks,
            heads=profile.heads,
        ),
        workload=WorkloadSection(**describe_workload(ctx.runner)),
        schedule=ScheduleSection.from_schedule(candidate.schedule),
        similarity=similarity_section(profile),
        prediction=PredictionSection(
            seconds=model.predict(candidate.schedule),
            speedup=model.speedup(candidate.schedule),
            error=candidate.predicted_error,
            bound=candidate.bound,
            gap=candidate.gap,
            p=2.0,
            price_of_interpretability=result.price_of_interpretability,
            rank_correlation=None if ctx.space.rank_correlation is None else Interval(**ctx.space.rank_correlation),
        ),
        evidence=None if certification is None else evidence_section(certification),
        gates=() if certification is None else gate_sections(certification),
        ledger=ledger_rows(ctx),
        provenance=ProvenanceSection(
            environment=environment(), command=ctx.options.command or None, started=started, finished=now()
        ),
    )


def similarity_section(profile: Profile) -> SimilaritySection:
    """Names the profile's similarity tables by their content."""
    tables = b"".join(np.ascontiguousarray(profile.similarity[f]).tobytes() for f in sorted(profile.similarity))
    return SimilaritySection(
        sha256=hashlib.sha256(tables).hexdigest(), percentiles=PERCENTILES, source="this run's profile"
    )


def gate_sections(certification: Certification) -> tuple[GateSection, ...]:
    """The verdicts."""
    return tuple(
        GateSection(
            name=gate.name,
            verdict=gate.verdict,
            threshold=gate.threshold,
            value=gate.value,
            message=gate.message,
        )
        for gate in certification.gates
    )


def ledger_rows(ctx: Context) -> tuple[LedgerRow, ...]:
    """What every stage cost."""
    return tuple(LedgerRow(**row) for row in ctx.ledger.rows())


def evidence_section(certification: Certification) -> EvidenceSection:
    """What was measured on held-out prompts."""
    pairs = certification.pairs
    prompts = "\n".join(pair.prompt for pair in pairs)
    return EvidenceSection(
        baseline_seconds=tuple(float(pair.baseline.step_seconds.sum()) for pair in pairs),
        tuned_seconds=tuple(float(pair.tuned.step_seconds.sum()) for pair in pairs),
        speedup=Speedup(
            point=certification.denoise.point,
            lower_bound_95=certification.denoise.lower_bound_95,
            scope="denoise",
        ),
        end_to_end=Speedup(
            point=certification.end_to_end.point,
            lower_bound_95=certification.end_to_end.lower_bound_95,
            scope="end_to_end",
        ),
        relative_mad=certification.denoise.relative_mad,
        quality={
            name: Interval(value=float(np.mean(values)), low=min(values), high=max(values))
            for name, values in certification.quality.items()
        },
        prompts_sha256=hashlib.sha256(prompts.encode()).hexdigest(),
        seeds=tuple(pair.seed for pair in pairs),
    )
