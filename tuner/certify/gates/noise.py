"""Was the machine quiet enough?"""

from __future__ import annotations

from tuner.certify.gates.gate import Gate

NOISE_LIMIT = 0.05


def noise_gate(relative_mad: float, limit: float = NOISE_LIMIT) -> Gate:
    """Run times must not scatter too much to conclude anything from them."""
    return Gate(
        "noise",
        "PASS" if relative_mad <= limit else "FAIL",
        relative_mad,
        limit,
        f"Times of equal runs scatter by {relative_mad:.1%} (relative MAD), with {limit:.0%} allowed",
    )
