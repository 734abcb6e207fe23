"""Puts what is known of a schedule into one artifact; the only place where artifacts are made."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from asymrnr.artifact import Artifact, Point
from asymrnr.artifact_io import load_artifact
from asymrnr.schedule import Schedule
from asymrnr.sections import (
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
from asymrnr.shipped import load_shipped
from tuner.certify.statistics import BOTH_SIDES, SpeedupEstimate, mean_bounds
from tuner.context import Context
from tuner.findings import Findings
from tuner.latency.model import LatencyModel
from tuner.models import WorkloadOptions
from tuner.profile.profile import Profile
from tuner.profile.similarity import PERCENTILES
from tuner.run.checkout import CHECKOUT_KEY
from tuner.run.identity import environment
from tuner.run.store import COST, MeasurementStore
from tuner.search.result import Candidate
from tuner.stages.certify import Certification

METHOD = "pairs in lock-step; Student's t over the pairs' log speed-ups, error spent over sequential looks"


def file_name(target: float) -> str:
    """Name of the artifact for one target, for example `x1.30.json`."""
    return f"x{target:.2f}.json"


def read_artifact(schedule: str, model: str, speedup: float | None = None) -> Artifact:
    """An artifact file, or a shipped profile of the model.

    Args:
        schedule: the file, or the profile's name.
        model: whose profile.
        speedup: the slowest of its schedules for at least that comes first; by default the one it was tuned for.

    Raises:
        ArtifactError: there is none, or it is damaged.
    """
    artifact = load_artifact(schedule) if schedule.endswith(".json") else load_shipped(model, schedule)
    return artifact if speedup is None else artifact.at(speedup)


def workload_for(artifact: Artifact, model: str, chosen: WorkloadOptions) -> WorkloadOptions:
    """What is chosen, completed with what an artifact of the same model was made for."""
    if artifact.model.repo != model:
        return chosen
    return chosen.completed(artifact.workload.model_dump())


def judged(
    target: float | None,
    schedule: Schedule,
    prediction: PredictionSection | None = None,
    certification: Certification | None = None,
) -> dict[str, Any]:
    """The fields of `asymrnr.sections.Judged`; without a certification the schedule is not certified.

    Args:
        target: denoising speed-up it was made for.
        schedule: what to apply.
        prediction, certification: what is known of it.
    """
    return {
        "target": target,
        "schedule": ScheduleSection.from_schedule(schedule),
        "prediction": prediction,
        "evidence": None if certification is None else evidence_section(certification),
        "gates": () if certification is None else gate_sections(certification),
    }


def build_artifact(ctx: Context, findings: Findings) -> Artifact:
    """The artifact of a tuning run, finished or not; what was not certified is marked so.

    Args:
        ctx: the run.
        findings: what it found, a profile and a verified schedule at least.
    """
    profiled, verification = findings.profiled, findings.verification
    assert profiled is not None
    assert verification is not None
    others = {t: found for t, found in findings.certified(ctx.options).items() if found is not findings}
    further = [Point(**_judged(ctx.at(target), found)) for target, found in others.items()]
    return Artifact(
        **_judged(ctx, findings),
        model=model_section(profiled.profile),
        workload=WorkloadSection(**ctx.instrument.subject["workload"]),
        frontier=tuple(sorted([*further, *findings.between], key=lambda point: point.target)),
        similarity=similarity_section(profiled.profile),
        ledger=ledger_rows(ctx),
        provenance=provenance_of(ctx.instrument.store, ctx.options.command),
    )


def _judged(ctx: Context, findings: Findings) -> dict[str, Any]:
    verification = findings.verification
    assert verification is not None
    candidate, model = verification.chosen, verification.model
    prediction = predicted(ctx, candidate, verification.predicted_speedup, model).model_copy(
        update={"price_of_interpretability": verification.result.price_of_interpretability}
    )
    return judged(ctx.options.target_speedup, candidate.schedule, prediction, findings.healthy)


def predicted(ctx: Context, candidate: Candidate, speedup: float, model: LatencyModel) -> PredictionSection:
    """What is expected of a candidate with all measurements pooled.

    Args:
        ctx: the run.
        candidate: the schedule.
        speedup: that it is believed to give.
        model: latency model.
    """
    # Studied on schedules that copy.
    correlation = ctx.space.rank_correlation if candidate.schedule.actions is None else None
    return prediction_section(candidate).model_copy(
        update={
            "seconds": model.baseline_seconds / speedup,
            "speedup": speedup,
            "rank_correlation": None if correlation is None else Interval(**correlation),
        }
    )


def model_section(profile: Profile) -> ModelSection:
    """The model that was profiled."""
    return ModelSection(
        repo=profile.model, transformer=profile.transformer or "unknown", blocks=profile.blocks, heads=profile.heads
    )


def prediction_section(candidate: Candidate) -> PredictionSection:
    """What the surrogate says of a candidate."""
    return PredictionSection(
        seconds=candidate.predicted_seconds,
        speedup=candidate.predicted_speedup,
        error=candidate.predicted_error,
        bound=candidate.bound,
        gap=candidate.gap,
        p=2.0,
    )


def similarity_section(profile: Profile) -> SimilaritySection:
    """Names the profile's similarity tables by their content."""
    tables = b"".join(np.ascontiguousarray(profile.similarity[f]).tobytes() for f in sorted(profile.similarity))
    return SimilaritySection(
        sha256=hashlib.sha256(tables).hexdigest(), percentiles=PERCENTILES, source="this run's profile"
    )


def provenance_of(store: MeasurementStore, command: str, source: str | None = None) -> ProvenanceSection:
    """Machine and dates of the measurements themselves, whenever they are packaged.

    Args:
        store: the run's measurements.
        command: the command line that asked for them.
        source: where the schedule comes from, for one that was not tuned here.
    """
    records = store.lines()
    made_on = next((line["values"] for line in records if line["key"] == {"kind": "environment"}), environment())
    code: dict[str, Any] = next((line["values"] for line in records if line["key"] == CHECKOUT_KEY), {})
    times = sorted(line["at"] for line in records if COST in line["values"])
    return ProvenanceSection(
        environment={**made_on, **code},
        command=command or None,
        started=times[0] if times else None,
        finished=times[-1] if times else None,
        source=source,
    )


def gate_sections(certification: Certification) -> tuple[GateSection, ...]:
    """The verdicts."""
    return tuple(
        GateSection(
            name=gate.name, verdict=gate.verdict, threshold=gate.threshold, value=gate.value, message=gate.message
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
        baseline_seconds=tuple(float(pair.plain.step_seconds.sum()) for pair in pairs),
        tuned_seconds=tuple(float(pair.tuned.step_seconds.sum()) for pair in pairs),
        pair_speedups=tuple(pair.denoise.speedup for pair in pairs),
        speedup=_speedup(certification.denoise, "denoise"),
        end_to_end=_speedup(certification.end_to_end, "end_to_end"),
        spread=certification.denoise.spread,
        set_aside=certification.disturbed_steps,
        disturbed=len(certification.disturbed),
        attempt=certification.attempt + 1,
        method=METHOD,
        memory_bytes=max((pair.memory_bytes for pair in pairs if pair.memory_bytes is not None), default=None),
        modes=tuple(dict.fromkeys(pair.mode for pair in pairs)),
        noise_floor=certification.noise_floor,
        quality={name: _interval(values) for name, values in certification.quality.items()},
        prompts_sha256=hashlib.sha256(prompts.encode()).hexdigest(),
        seeds=tuple(pair.seed for pair in pairs),
    )


def _speedup(estimate: SpeedupEstimate, scope: str) -> Speedup:
    return Speedup(point=estimate.point, lower_bound_95=estimate.lower_bound_95, scope=scope)  # type: ignore[arg-type]


def _interval(values: list[float]) -> Interval:
    """Mean over prompts with its two-sided 95 % interval; none for a single prompt."""
    bounds = mean_bounds(values, BOTH_SIDES)
    return Interval(value=bounds.mean, low=bounds.low, high=bounds.high)
