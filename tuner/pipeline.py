"""The whole job as one corridor: preflight, profile, verify, noise floor, certify, package, report; and its policy.

Whatever ends a run, the best schedule so far is saved with what is known of it.
"""

from __future__ import annotations

from asymrnr.artifact_io import save_artifact
from asymrnr.errors import ArtifactError
from tuner.context import Context, Progress, TuneOptions
from tuner.errors import NoisyMeasurementError, TunerError
from tuner.findings import Findings, Outcome
from tuner.foretold import foretell, shorten
from tuner.frontier import between, prove_further
from tuner.inert import why_inert
from tuner.opening import close, open_run
from tuner.out_of_memory import KEPT, advice
from tuner.package import build_artifact, file_name
from tuner.parts import parts_of
from tuner.proof import prove, verdict_error
from tuner.report.run import write_report
from tuner.stages.certify import STAGE as CERTIFY
from tuner.stages.certify import cost_ie
from tuner.stages.choice import Verification
from tuner.stages.compare import compare
from tuner.stages.noise_floor import measure_noise_floor
from tuner.stages.noise_floor import requests as noise_floor_requests
from tuner.stages.preflight import preflight
from tuner.stages.profile import profile_model
from tuner.stages.profile import requests as profile_requests
from tuner.stages.verify import verify

FORECAST = "forecast"


def tune(options: TuneOptions, progress: Progress) -> Outcome:
    """Run the whole job; every measurement is on disk as soon as it is made.

    Raises:
        TunerError: the run ended without a certificate; its exit code says why, and what was found is saved.
    """
    ctx = open_run(options, progress)
    progress.plan(parts_of(ctx))
    findings = Findings()
    try:
        go(ctx, findings)
    except BaseException as error:
        findings.error = error
        _forget_disturbed(ctx, findings)
        how = "" if findings.artifact is not None and findings.artifact.certified else ", uncertified,"
        saved = "" if findings.path is None else f"The best schedule so far is saved{how} as {findings.path}."
        if findings.inert is not None:
            saved = f"No schedule is saved: {findings.inert}."
        try_report(ctx, findings)
        ran_out = advice(error, ctx.options.load.offload)
        if ran_out is not None:
            raise TunerError(f"{ran_out}; {KEPT} {saved}".strip()) from error
        if isinstance(error, TunerError) and saved:
            raise type(error)(f"{error} {saved}") from error
        if saved:  # an interruption, or something unforeseen
            progress.stage("ended", saved)
        raise
    else:
        return Outcome(findings, write_report(ctx, findings), ctx)
    finally:
        close(ctx)


def go(ctx: Context, findings: Findings) -> None:
    """Walk through the stages, noting in `findings` what each found and saving the best schedule so far.

    Raises:
        TunerError: there is no certificate.
    """

    def keep_verification(verification: Verification) -> None:
        findings.verification = verification
        save(ctx, findings)

    ctx.progress.stage(FORECAST, foretell(ctx))
    findings.early = preflight(ctx)
    shorten(ctx)
    ctx.progress.stage(FORECAST, foretell(ctx))
    target = ctx.options.target_speedup
    ctx.ledger.reserve(CERTIFY, cost_ie(target))
    observed = profile_requests(ctx, findings.early.model)
    ctx.instrument.ahead([*observed, *noise_floor_requests(ctx)], ctx.progress.advance)  # neither needs the other
    findings.profiled = profile_model(ctx, findings.early.model)
    findings.verification = verify(ctx, findings.early, findings.profiled, keep_verification)
    findings.noise_floor = measure_noise_floor(ctx)
    prove(ctx, findings, lambda: save(ctx, findings))
    ctx.instrument.settle()
    save(ctx, findings)  # with what an attempt that came to nothing cost
    assert findings.certification is not None
    if findings.certification.certified:
        prove_further(ctx, findings, lambda: save(ctx, findings))
        findings.between = between(ctx, findings)
        ctx.instrument.settle()
        save(ctx, findings)
    if ctx.options.compare:
        ctx.ledger.release(CERTIFY)
        judged = findings.certification.pairs
        findings.compared = compare(ctx, findings.profiled.profile.blocks, judged[0] if judged else None)
        save(ctx, findings)
    if not findings.certification.certified:
        raise verdict_error(findings.certification)
    for found in findings.further:
        if found.error is not None:
            raise found.error


def save(ctx: Context, findings: Findings) -> None:
    """Save the best schedule so far with what is known of it, unless it is of no use; who only reads saves nothing."""
    if findings.profiled is None or findings.verification is None:
        return
    path = ctx.options.output / file_name(ctx.options.target_speedup)
    findings.inert = why_inert(findings)
    if findings.inert is not None:
        findings.artifact = findings.path = None
        if not ctx.instrument.store.read_only:
            path.unlink(missing_ok=True)
        return
    findings.artifact = build_artifact(ctx, findings)
    if ctx.instrument.store.read_only:
        return
    findings.artifact = save_artifact(findings.artifact, path)
    findings.path = path


def try_report(ctx: Context, findings: Findings) -> None:
    """Write the report of a run that failed; what goes wrong here must not hide why it did."""
    try:
        write_report(ctx, findings)
    except (OSError, TunerError, ArtifactError, ValueError, MemoryError, RuntimeError) as error:
        if findings.error is not None:
            findings.error.add_note(f"The report could not be written: {error}")


def _forget_disturbed(ctx: Context, findings: Findings) -> None:
    """After a run that was too noisy, `--resume` measures what was disturbed again."""
    for found in (findings, *findings.further):
        certification = found.certification
        if isinstance(found.error, NoisyMeasurementError) and certification is not None:
            pairs = [*certification.disturbed, *(p for p in certification.pairs if not p.denoise.usable)]
            if pairs and not ctx.instrument.store.read_only:
                hashes = [pair.key_hash for pair in pairs]
                ctx.instrument.store.forget(hashes)
                if ctx.sharing is not None:
                    ctx.sharing.forget(hashes)
