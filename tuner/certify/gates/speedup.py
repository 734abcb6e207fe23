"""Is it fast enough?"""

from __future__ import annotations

from tuner.certify.gates.gate import Gate
from tuner.certify.statistics import SpeedupEstimate


def speedup_gate(estimate: SpeedupEstimate, target: float) -> Gate:
    """The 95 % lower bound of the speed-up must reach the target."""
    bound = estimate.lower_bound_95
    return Gate(
        "speedup",
        "PASS" if bound >= target else "FAIL",
        bound,
        target,
        f"Denoising is {estimate.point:.3f}x faster, with 95 % confidence at least {bound:.3f}x, for a target of "
        f"{target:g}x",
    )
