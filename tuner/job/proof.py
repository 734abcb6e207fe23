"""Certifies the schedule chosen, and a faster one when held-out prompts show that the first was just too slow."""

from __future__ import annotations

from tuner.errors import BudgetExhaustedError, InfeasibleError
from tuner.job.certify import STAGE, Certification, certify, cost_ie
from tuner.job.context import Context
from tuner.job.profiling import Profiled
from tuner.job.verify import Verification, correct


def prove(ctx: Context, profiled: Profiled, verification: Verification) -> tuple[Verification, Certification]:
    """Certify; when only the speed-up fails and the budget holds it, correct the latency model and try once more.

    Returns:
        The verification and the certification of the last schedule that was certified or refused.

    Raises:
        BudgetExhaustedError: the budget does not hold the first certification.
        NonFiniteError: a schedule makes the model produce NaN.
    """
    certification = certify(ctx, verification.chosen.candidate.schedule)
    if [gate.name for gate in certification.failed()] != ["speedup"]:
        return verification, certification
    try:
        ctx.ledger.reserve(STAGE, cost_ie(ctx.options.target_speedup))
        second = correct(ctx, profiled, verification, certification.denoise.point)
        return second, certify(ctx, second.chosen.candidate.schedule, attempt=1)
    except (BudgetExhaustedError, InfeasibleError):
        return verification, certification
