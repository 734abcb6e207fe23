"""The whole job: preflight, profile, search, verify, certify, artifact, report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from asymrnr.artifact import Artifact
from asymrnr.artifact_io import save_artifact
from tuner.certify.health import with_health
from tuner.certify.proof import prove
from tuner.certify.protocol import STAGE as CERTIFY
from tuner.certify.protocol import Certification, cost_ie
from tuner.certify.verify import Verification, verify
from tuner.errors import (
    BudgetExhaustedError,
    EnvironmentMismatchError,
    NoisyMeasurementError,
    QualityGateError,
    TunerError,
    UsageError,
)
from tuner.latency.preflight import preflight
from tuner.models import find_model
from tuner.package import build_artifact, file_name, now
from tuner.profile.stage import profile_model
from tuner.quality.lpips import Lpips
from tuner.report.run import write_report
from tuner.run.context import OPTIONS_KEY, Context, Progress, TuneOptions, load_context
from tuner.run.identity import differences, environment
from tuner.run.ledger import Ledger
from tuner.run.store import MeasurementStore

ENVIRONMENT_KEY = {"kind": "environment"}


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    Attributes:
        artifact: what was saved.
        path: where.
        report: the HTML report.
        certification: evidence and gates.
        verification: the finalists.
        ctx: the run's tools, for summaries.
    """

    artifact: Artifact
    path: Path
    report: Path
    certification: Certification
    verification: Verification
    ctx: Context


def open_run(options: TuneOptions, progress: Progress) -> Context:
    """Check everything that can be checked before any work, then load the model.

    Raises:
        UsageError: unknown model, impossible target or budget, a folder that cannot be written or is taken.
        EnvironmentMismatchError: the folder's measurements were made on another machine or with other versions.
    """
    find_model(options.model)
    Ledger(options.budget)  # refuses an impossible budget
    if not options.target_speedup > 1:
        raise UsageError(f"The target speed-up is {options.target_speedup:g}; ask for more than 1, for example 1.3.")
    if options.lpips_weights is not None:
        Lpips(weights=options.lpips_weights)  # refuses a wrong file before anything is measured
    store = MeasurementStore(options.output)
    here = environment()
    if len(store) and not options.resume:
        raise UsageError(
            f"{options.output} already holds measurements; add --resume to go on from them, or choose another --output."
        )
    known = store.get(ENVIRONMENT_KEY)
    changed = [] if known is None else differences(known.values, here)
    if changed:
        raise EnvironmentMismatchError(
            f"{options.output} was measured elsewhere ({' '.join(changed)}); choose another --output."
        )
    ctx = load_context(options, store, progress)
    if known is None:
        store.put(ENVIRONMENT_KEY, here)
    store.put(OPTIONS_KEY, options.to_dict())
    return ctx


def tune(options: TuneOptions, progress: Progress) -> Outcome:
    """Run the whole job; every measurement is on disk as soon as it is made.

    Raises:
        TunerError: the run ended without a certificate; its exit code says why, and what was found is saved.
    """
    started = now()
    ctx = open_run(options, progress)
    early = preflight(ctx)
    ctx.ledger.reserve(CERTIFY, cost_ie(options.target_speedup))
    profiled = profile_model(ctx, early.model)
    verification = verify(ctx, early, profiled)
    path = options.output / file_name(options.target_speedup)

    def save(certification: Certification | None) -> Artifact:
        artifact = build_artifact(ctx, profiled, verification, certification, started)
        return save_artifact(artifact, path)

    try:
        verification, certification = prove(ctx, profiled, verification)
    except BudgetExhaustedError:
        save(None)
        raise
    certification = with_health(profiled, verification, certification)
    artifact = save(certification)
    report = write_report(ctx, profiled, verification, certification)
    if not certification.certified:
        raise verdict_error(certification, path)
    return Outcome(artifact, path, report, certification, verification, ctx)


def verdict_error(certification: Certification, path: Path) -> TunerError:
    """The error for a run whose gates did not all pass; noise excuses a missed target, nothing excuses quality."""
    failed = {gate.name: gate for gate in certification.failed()}
    saved = f"the schedule is saved, uncertified, as {path}"
    quality = [gate for name, gate in failed.items() if name not in ("speedup", "noise")]
    if quality:
        return QualityGateError(f"{quality[0].message}; {saved}.")
    if "noise" in failed:
        return NoisyMeasurementError(f"{failed['noise'].message}; measure again on a quieter machine; {saved}.")
    return BudgetExhaustedError(f"{failed['speedup'].message}, and the budget holds no further attempt; {saved}.")
