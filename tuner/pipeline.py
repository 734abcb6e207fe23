"""The whole job as one corridor: preflight, profile, verify, noise floor, certify, package, report; and its policy.

Whatever ends a run, the best schedule so far is saved with what is known of it.
"""

from __future__ import annotations

from pathlib import Path

import torch

from asymrnr.artifact_io import save_artifact
from asymrnr.errors import ArtifactError
from tuner.context import Context, Progress, TuneOptions
from tuner.errors import (
    BudgetExhaustedError,
    NoisyMeasurementError,
    QualityGateError,
    TunerError,
)
from tuner.findings import Findings, Outcome
from tuner.opening import open_run
from tuner.package import build_artifact, file_name
from tuner.report.run import write_report
from tuner.stages.certify import STAGE as CERTIFY
from tuner.stages.certify import Certification, certify, cost_ie
from tuner.stages.compare import compare
from tuner.stages.health import with_health
from tuner.stages.noise_floor import measure_noise_floor
from tuner.stages.preflight import preflight
from tuner.stages.profile import profile_model
from tuner.stages.verify import AIM, Verification, corrected, verify

SLACK = 0.05  # a certified speed-up further above the target costs quality that nobody asked for
OF_TIME = ("speedup", "noise", "pairs")  # gates; the others are about the videos
CLOSER = 0.02  # least distance to the target from which going closer to it is worth an attempt


def tune(options: TuneOptions, progress: Progress) -> Outcome:
    """Run the whole job; every measurement is on disk as soon as it is made.

    Raises:
        TunerError: the run ended without a certificate; its exit code says why, and what was found is saved.
    """
    ctx = open_run(options, progress)
    findings = Findings()
    try:
        go(ctx, findings)
    except BaseException as error:
        findings.error = error
        _forget_disturbed(ctx, findings)
        saved = "" if findings.path is None else f"The best schedule so far is saved, uncertified, as {findings.path}."
        try_report(ctx, findings)
        if isinstance(error, torch.OutOfMemoryError):
            raise TunerError(f"The device ran out of memory; add --offload model. {saved}".strip()) from error
        if isinstance(error, TunerError) and saved:
            raise type(error)(f"{error} {saved}") from error
        if saved:  # an interruption, or something unforeseen
            progress.stage("ended", saved)
        raise
    else:
        return Outcome(findings, write(ctx, findings), ctx)
    finally:
        ctx.instrument.store.close()


def go(ctx: Context, findings: Findings) -> None:
    """Walk through the stages, noting in `findings` what each found and saving the best schedule so far.

    Raises:
        TunerError: there is no certificate.
    """

    def keep_verification(verification: Verification) -> None:
        findings.verification = verification
        save(ctx, findings)

    findings.early = preflight(ctx)
    target = ctx.options.target_speedup
    ctx.ledger.reserve(CERTIFY, cost_ie(target))
    findings.profiled = profile_model(ctx, findings.early.model)
    findings.verification = verify(ctx, findings.early, findings.profiled, keep_verification)
    findings.noise_floor = measure_noise_floor(ctx)
    prove(ctx, findings)
    save(ctx, findings)  # with what an attempt that came to nothing cost
    assert findings.certification is not None
    if ctx.options.compare:
        ctx.ledger.release(CERTIFY)
        judged = findings.certification.pairs
        findings.compared = compare(ctx, findings.profiled.profile.blocks, judged[0] if judged else None)
        save(ctx, findings)
    if not findings.certification.certified:
        raise verdict_error(findings.certification)


def prove(ctx: Context, findings: Findings) -> None:
    """Certify; where another schedule of the same kind may do better and the budget holds it, try once more.

    It may when the first is too slow, when it is certified but more than 5 % above the target (which costs quality), or
    when only its videos fail although the target is surpassed. A certificate is never given up for a refusal.
    """
    profiled, first, floor = findings.profiled, findings.verification, findings.noise_floor
    assert profiled is not None
    assert first is not None
    assert floor is not None

    def keep(certification: Certification) -> None:
        findings.certification = certification
        save(ctx, findings)

    before = certify(ctx, first.chosen.schedule, first.predicted_speedup, floor, keep=keep)
    findings.certification = before
    aim = second_aim(before, ctx.options.target_speedup)
    if aim is None:
        return
    second = corrected(ctx, profiled, first, before.evidence, aim)
    if second.chosen.schedule.content_hash() == first.chosen.schedule.content_hash():
        return
    try:
        ctx.ledger.reserve(CERTIFY, cost_ie(second.predicted_speedup))
        after = certify(ctx, second.chosen.schedule, second.predicted_speedup, floor, attempt=1)
    except (BudgetExhaustedError, QualityGateError):
        return
    if after.certified or not before.certified:
        findings.verification, findings.certification = second, after


def second_aim(certification: Certification, target: float) -> float | None:
    """The speed-up that a second schedule should aim at; None where it is of no use.

    Args:
        certification: of the first one.
        target: denoising speed-up asked for.
    """
    point = certification.denoise.point
    failed = {gate.name for gate in certification.failed()}
    if not failed:
        return target * (1 + AIM) if point > target * (1 + SLACK) else None
    if failed <= {"speedup"}:
        return target * (1 + max(AIM, 0.75 * SLACK))
    if failed <= {"video", "sharpness", "flicker"} and point >= target * (1 + AIM + CLOSER):
        return target * (1 + AIM)
    return None


def verdict_error(certification: Certification) -> TunerError:
    """The error for a run whose gates did not all pass; noise excuses a missed target, nothing excuses quality."""
    failed = {gate.name: gate for gate in certification.failed()}
    decided = [gate for name, gate in failed.items() if name not in OF_TIME and not gate.open]
    n = len(certification.pairs)
    if decided:
        return QualityGateError(f"{decided[0].message}.")
    if "noise" in failed or (certification.disturbed and certification.cut_short):
        message = failed["noise"].message if "noise" in failed else certification.cut_short
        return NoisyMeasurementError(f"{message}; --resume measures the disturbed pairs again.")
    quality = [gate for name, gate in failed.items() if name not in OF_TIME]
    if quality:
        return QualityGateError(f"{quality[0].message}, after {n} pairs.")
    if "pairs" in failed:
        return BudgetExhaustedError(f"{failed['pairs'].message}; raise --budget.")
    why = "the budget holds no more" if certification.cut_short else "more pairs or another attempt are not planned"
    return BudgetExhaustedError(f"{failed['speedup'].message}, after {n} pairs, and {why}.")


def save(ctx: Context, findings: Findings) -> None:
    """Save the best schedule so far with what is known of it; a run that only reads saves nothing."""
    if findings.profiled is None or findings.verification is None:
        return
    findings.artifact = build_artifact(ctx, findings.profiled, findings.verification, _certification(findings))
    if ctx.instrument.store.read_only:
        return
    path = ctx.options.output / file_name(ctx.options.target_speedup)
    findings.artifact = save_artifact(findings.artifact, path)
    findings.path = path


def write(ctx: Context, findings: Findings) -> Path:
    """Write the report of whatever was found."""
    certification = _certification(findings)
    artifact, compared = findings.artifact, findings.compared
    return write_report(
        ctx, findings.profiled, findings.verification, certification, findings.error, artifact, compared
    )


def _certification(findings: Findings) -> Certification | None:
    """The certification with the checks of what it was found by."""
    if findings.profiled is None or findings.verification is None or findings.certification is None:
        return findings.certification
    return with_health(findings.profiled, findings.verification, findings.certification)


def try_report(ctx: Context, findings: Findings) -> None:
    """Write the report of a run that failed; what goes wrong here must not hide why it did."""
    try:
        write(ctx, findings)
    except (OSError, TunerError, ArtifactError, ValueError) as error:
        if findings.error is not None:
            findings.error.add_note(f"The report could not be written: {error}")


def _forget_disturbed(ctx: Context, findings: Findings) -> None:
    """After a run that was too noisy, `--resume` measures what was disturbed again."""
    certification = findings.certification
    if isinstance(findings.error, NoisyMeasurementError) and certification is not None:
        pairs = [*certification.disturbed, *(p for p in certification.pairs if not p.denoise.usable)]
        if pairs and not ctx.instrument.store.read_only:
            ctx.instrument.store.forget([pair.key_hash for pair in pairs])
