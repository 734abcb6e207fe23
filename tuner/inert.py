"""Schedules that are of no use are not handed out, however a run ended."""

from __future__ import annotations

import math

from tuner.findings import Findings


def why_inert(findings: Findings) -> str | None:
    """Why the best schedule so far is of no use: it does nothing, or is not surely faster than the plain model.

    Pairs that scatter too much to tell (the noise gate) refute nothing: what was predicted stands then.

    Args:
        findings: with a verification; a certification counts where there is one.

    Returns:
        A part of a sentence, or None for a schedule that is of use.
    """
    verification, certification = findings.verification, findings.certification
    assert verification is not None
    if certification is not None and any(gate.name == "noise" for gate in certification.failed()):
        certification = None
    schedule = verification.chosen.schedule if certification is None else certification.schedule
    if schedule.planned_sites() == 0 and not schedule.reused_steps().any():
        return "it reduces nothing"
    if certification is None:
        speedup, gain = verification.predicted_speedup, math.log(verification.predicted_speedup)
        sure = gain > verification.model.log_speedup_sd(schedule)
    else:
        speedup, low = certification.denoise.point, certification.denoise.lower_bound_95
        sure = low is None or low > 1
    if speedup <= 1:
        return f"it is not faster than the plain model ({speedup:.3f}x)"
    return None if sure else f"it gains less than its uncertainty ({speedup:.3f}x)"
