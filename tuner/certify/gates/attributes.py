"""Does the video still show what the prompt asks for?"""

from __future__ import annotations

from collections.abc import Sequence

from tuner.certify.gates.gate import Gate


def attribute_gate(baseline_right: Sequence[bool], tuned_right: Sequence[bool]) -> Gate:
    """Whatever the unaccelerated videos show as prompted, the tuned ones must show too.

    Args:
        baseline_right: per prompt and attribute, whether the unaccelerated video is right.
        tuned_right: the same for the tuned video, in the same order.
    """
    kept = sum(b and t for b, t in zip(baseline_right, tuned_right, strict=True))
    shown = sum(baseline_right)
    share = kept / shown if shown else 0.0
    return Gate(
        "attributes",
        "PASS" if shown and kept == shown else "FAIL",
        share,
        1.0,
        f"{kept} of {shown} attributes that the unaccelerated videos show as prompted are kept",
    )
