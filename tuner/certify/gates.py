"""Gates: verdicts on evidence, each with the number it rests on and one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tuner.certify.stats import SpeedupEstimate

Verdict = Literal["PASS", "WARN", "FAIL"]

NOISE_LIMIT = 0.05
NOISE_FLOOR_SHARE = 0.10
DRIFT_LIMIT = 0.10


@dataclass(frozen=True)
class Gate:
    """One verdict.

    Attributes:
        name: what was judged.
        verdict: PASS, WARN (worth knowing) or FAIL (no certificate).
        value: the number judged.
        threshold: what it was held against.
        message: one sentence, without a full stop.
    """

    name: str
    verdict: Verdict
    value: float
    threshold: float
    message: str


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


def noise_gate(relative_mad: float, limit: float = NOISE_LIMIT) -> Gate:
    """Run times must not scatter too much to conclude anything from them."""
    return Gate(
        "noise",
        "PASS" if relative_mad <= limit else "FAIL",
        relative_mad,
        limit,
        f"Times of equal runs scatter by {relative_mad:.1%} (relative MAD), with {limit:.0%} allowed",
    )


def applied_gate(reduced_sites: int, planned_sites: int) -> Gate:
    """The runtime must have reduced every site the schedule names."""
    return Gate(
        "applied",
        "PASS" if reduced_sites == planned_sites > 0 else "FAIL",
        reduced_sites,
        planned_sites,
        f"{reduced_sites} of {planned_sites} sites that the schedule names were reduced",
    )


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
