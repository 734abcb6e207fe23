"""Is the video still the same?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tuner.certify.gates.gate import Gate

NOISE_FLOOR_SHARE = 0.10


def video_gate(errors: Sequence[float], noise_floor: float, share: float = NOISE_FLOOR_SHARE) -> Gate:
    """The tuned video must stay close to the unaccelerated one, measured by what another seed changes.

    Args:
        errors: mean squared errors of tuned against unaccelerated videos of the same prompt and seed.
        noise_floor: mean squared error between unaccelerated videos of one prompt with different seeds.
        share: largest mean error allowed, as a share of the noise floor.
    """
    value = float(np.mean(errors)) / noise_floor
    return Gate(
        "video",
        "PASS" if value <= share else "FAIL",
        value,
        share,
        f"Videos change by {value:.1%} of what another seed changes, with {share:.0%} allowed",
    )
