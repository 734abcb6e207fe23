"""Was the schedule really in effect?"""

from __future__ import annotations

from tuner.certify.gates.gate import Gate


def applied_gate(reduced_sites: int, planned_sites: int) -> Gate:
    """The runtime must have reduced every site the schedule names."""
    return Gate(
        "applied",
        "PASS" if reduced_sites == planned_sites > 0 else "FAIL",
        reduced_sites,
        planned_sites,
        f"{reduced_sites} of {planned_sites} sites that the schedule names were reduced",
    )
