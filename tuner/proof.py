"""From a verified schedule to a certificate, with a second attempt where another schedule may do better."""

from __future__ import annotations

import math
from collections.abc import Callable

from tuner.context import Context
from tuner.errors import BudgetExhaustedError, NoisyMeasurementError, QualityGateError, TunerError
from tuner.findings import Findings
from tuner.stages.certify import STAGE as CERTIFY
from tuner.stages.certify import Certification, certify, cost_ie, too_fast
from tuner.stages.verify import AIM, corrected

OF_TIME = ("speedup", "noise", "pairs")  # gates; the others are about the videos
OF_VIDEOS = {"video", "sharpness", "flicker"}  # those that say how much
UNSURE, MOST = 0.037, 0.07  # least and most that a second schedule aims above the target (logarithms)
MARGIN = 0.02  # of that, for what the prediction gets wrong
CLOSER = 0.01  # least distance to the target from which going closer to it is worth an attempt
FAR_OFF = 2.0  # times the limit: videos that change so much change too much that close to the target as well


def prove(ctx: Context, findings: Findings, keep: Callable[[], None]) -> None:
    """Certify; where another schedule may do better and the budget holds it, try once more.

    One of the same kind may when the first is too slow, when it is certified but more than 5 % above the target (which
    costs quality), or when only its videos fail although the target is surpassed. Where they fail without that, one of
    the runner-up's kind may: two prompts cannot tell for sure which of two kinds changes videos less. A certificate is
    never given up for a refusal.

    Args:
        ctx: the run.
        findings: what it found so far for its target; the evidence is noted there.
        keep: told after every look of the first attempt.
    """
    profiled, first, floor = findings.profiled, findings.verification, findings.noise_floor
    assert profiled is not None
    assert first is not None
    assert floor is not None

    def note(certification: Certification) -> None:
        findings.certification = certification
        keep()

    before = certify(ctx, first.chosen.schedule, first.predicted_speedup, floor, keep=note)
    findings.certification = before
    aim, like = second_aim(before, ctx.options.target_speedup), None
    if aim is None and first.runner_up is not None:
        aim, like = other_aim(before, ctx.options.target_speedup), first.runner_up
    if aim is None:
        return
    second = corrected(ctx, profiled, first, before.evidence, aim, like)
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
    """The speed-up that a second schedule of the same kind should aim at; None where it is of no use.

    Args:
        certification: of the first one.
        target: denoising speed-up asked for.
    """
    point, failed = certification.denoise.point, {gate.name for gate in certification.failed()}
    if not failed:
        return target * (1 + AIM) if too_fast(point, target) else None
    if failed <= {"speedup"}:
        return target * math.exp(min(max(UNSURE, (_short(certification) or 0.0) + MARGIN), MOST))
    aim = other_aim(certification, target)
    return aim if aim is not None and point >= aim * (1 + CLOSER) else None


def other_aim(certification: Certification, target: float) -> float | None:
    """The same of a schedule of another kind: as close to the target as what was measured allows.

    Args:
        certification, target: see `second_aim`.
    """
    failed, short = certification.failed(), _short(certification)
    if not failed or any(gate.name not in OF_VIDEOS or gate.value > FAR_OFF * gate.threshold for gate in failed):
        return None
    return target * min(1 + AIM, math.inf if short is None else math.exp(short + MARGIN))


def _short(certification: Certification) -> float | None:
    """By how much the bound falls short of the estimate (logarithm)."""
    point, low = certification.denoise.point, certification.denoise.lower_bound_95
    return None if low is None else math.log(point / low)


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
