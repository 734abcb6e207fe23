"""Certifies the schedule chosen, and another one where held-out prompts show it too slow, or needlessly fast."""

from __future__ import annotations

from tuner.certify.protocol import STAGE, Certification, certify, cost_ie
from tuner.certify.verify import Verification, correct
from tuner.errors import BudgetExhaustedError, InfeasibleError
from tuner.profile.stage import Profiled
from tuner.run.context import Context

SPARE = 0.01  # above the target, beyond what the certificate's uncertainty costs
SLACK = 0.02  # above the target; less is not worth another attempt


def prove(ctx: Context, profiled: Profiled, verification: Verification) -> tuple[Verification, Certification]:
    """Certify; where that may help and the budget holds it, correct the latency model and try once more.

    It may help when only the speed-up fails, and when only the videos do although the target is surpassed: then the
    second schedule is searched closer to the target.

    Returns:
        The verification and the certification of the last schedule that was certified or refused.

    Raises:
        BudgetExhaustedError: the budget does not hold the first certification.
        NonFiniteError: a schedule makes the model produce NaN.
    """
    certification = certify(ctx, verification.chosen.candidate.schedule)
    failed, speed, target = (
        [gate.name for gate in certification.failed()],
        certification.denoise,
        ctx.options.target_speedup,
    )
    if failed == ["speedup"]:
        margin = verification.margin
    elif failed == ["video"] and speed.lower_bound_95 >= target * (1 + SLACK):
        margin = min(verification.margin, speed.point / speed.lower_bound_95 - 1 + SPARE)
    else:
        return verification, certification
    try:
        ctx.ledger.reserve(STAGE, cost_ie(target))
        second = correct(ctx, profiled, verification, speed.point, margin)
        return second, certify(ctx, second.chosen.candidate.schedule, attempt=1)
    except (BudgetExhaustedError, InfeasibleError):
        return verification, certification
