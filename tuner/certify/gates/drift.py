"""Does a property of the videos move?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tuner.certify.gates.gate import Gate

DRIFT_LIMIT = 0.10


def drift_gate(name: str, ratios: Sequence[float], limit: float = DRIFT_LIMIT) -> Gate:
    """Warn when a property of the videos moves, as a ratio of tuned over unaccelerated."""
    drift = float(np.mean(ratios)) - 1
    return Gate(
        name,
        "PASS" if abs(drift) <= limit else "WARN",
        drift,
        limit,
        f"{name.capitalize()} changes by {drift:+.1%}, with {limit:.0%} unremarkable",
    )
