"""Health checks: each gives a verdict with the number it rests on and one sentence.

FAIL means no certificate; WARN is worth knowing. A claim about new prompts passes only when its confidence bound is
within the limit, and stays open while the bound on the other side is: more pairs may then decide it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tuner.certify.statistics import CONFIDENCE, Bounds, SpeedupEstimate, mean_bounds
from tuner.profile.agreement import Agreement
from tuner.run.estimate import MAX_DISTURBED

Verdict = Literal["PASS", "WARN", "FAIL"]

SPREAD_LIMIT = 0.05  # standard deviation over pairs of the log speed-up
NOISE_FLOOR_SHARE = 0.10
DRIFT_LIMIT = 0.15  # a convention, not a threshold of perception; a bound from few prompts lies well above its point
AGREEMENT_LIMIT = 0.8
PREDICTION_LIMIT = 0.05
RECOMPUTED_LIMIT = 1e-3
LEAST = 1e-6  # changes and ratios are taken to be at least this, so that they have a logarithm


@dataclass(frozen=True)
class Gate:
    """One verdict.

    Attributes:
        name: what was judged.
        verdict: PASS, WARN (worth knowing) or FAIL (no certificate).
        value: the number judged.
        threshold: what it was held against.
        message: one sentence, without a full stop.
        open: it fails only because the confidence interval straddles the limit; more pairs may decide it.
    """

    name: str
    verdict: Verdict
    value: float
    threshold: float
    message: str
    open: bool = False


def speedup_gate(estimate: SpeedupEstimate, target: float) -> Gate:
    """The 95 % lower bound of the speed-up must reach the target; a single pair has none."""
    low, high = estimate.lower_bound_95, estimate.upper_bound_95
    measured = f"Denoising is {estimate.point:.3f}x faster"
    if low is None or high is None:
        message = f"{measured} in the only pair (n = 1, no interval), for a target of {target:g}x"
        return Gate("speedup", "FAIL", estimate.point, target, message, open=True)
    passed = low >= target
    return Gate(
        "speedup",
        "PASS" if passed else "FAIL",
        low,
        target,
        f"{measured} over {estimate.pairs} pairs, with {CONFIDENCE:.0%} confidence at least {low:.3f}x, for a target "
        f"of {target:g}x",
        open=not passed and high >= target,
    )


def pairs_gate(pairs: int, needed: int) -> Gate:
    """A certificate needs so many different held-out prompts; fewer are a spot check."""
    return Gate(
        "pairs",
        "PASS" if pairs >= needed else "FAIL",
        pairs,
        needed,
        f"{pairs} held-out pairs were judged, with {needed} needed for a certificate",
        open=pairs < needed,
    )


def noise_gate(
    spread: float | None,
    disturbed_share: float,
    limit: float = SPREAD_LIMIT,
    disturbed_limit: float = MAX_DISTURBED,
) -> Gate:
    """Pairs must agree on the speed-up, and most of their steps must have been left alone by other work.

    A machine that slows down evenly passes, because plain and tuned steps slow down alike.

    Args:
        spread: standard deviation over pairs of the log speed-up, in which no outlier can hide as in a median; None
            with a single pair.
        disturbed_share: share of the steps that were disturbed.
        limit, disturbed_limit: the largest of each.
    """
    disturbed = f"{disturbed_share:.0%} of the steps were disturbed, with {disturbed_limit:.0%} allowed"
    if disturbed_share > disturbed_limit:
        return Gate("noise", "FAIL", disturbed_share, disturbed_limit, f"Too noisy to measure: {disturbed}")
    if spread is None:
        message = f"How far pairs scatter is unknown (n = 1), and {disturbed}"
        return Gate("noise", "PASS", disturbed_share, disturbed_limit, message)
    return Gate(
        "noise",
        "PASS" if spread <= limit else "FAIL",
        spread,
        limit,
        f"Speed-ups of pairs scatter by {spread:.1%} (SD), with {limit:.0%} allowed, and {disturbed}",
    )


def applied_gate(reduced_sites: int, planned_sites: int, adaptive: bool = False) -> Gate:
    """The runtime must have reduced every site the schedule names.

    Args:
        reduced_sites: those that were reduced, broadcast or left out.
        planned_sites: those that the schedule names.
        adaptive: the schedule brings a cache that decides by itself what to leave out, so that it is not known
            beforehand how many sites that makes, and sites may refresh late: half of those named, at least.
    """
    if adaptive:
        passed = reduced_sites > 0 and reduced_sites >= planned_sites / 2
        verdict: Verdict = "PASS" if passed else "FAIL"
        message = (
            f"{reduced_sites} sites were reduced or left out by the cache, where the schedule names {planned_sites}"
        )
        return Gate("applied", verdict, reduced_sites, planned_sites, message)
    return Gate(
        "applied",
        "PASS" if reduced_sites == planned_sites > 0 else "FAIL",
        reduced_sites,
        planned_sites,
        f"{reduced_sites} of {planned_sites} sites that the schedule names were reduced",
    )


def video_gate(changes: Sequence[float], alpha: float = 1 - CONFIDENCE, share: float = NOISE_FLOOR_SHARE) -> Gate:
    """The tuned video must stay close to the unaccelerated one, measured by what another seed changes.

    The claim is about a typical prompt, the geometric mean, because such changes scatter by factors.

    Args:
        changes: per prompt, mean squared error of the tuned against the unaccelerated video of the same seed, over that
            between unaccelerated videos of different seeds.
        alpha: how often the bound may miss.
        share: largest typical change allowed.
    """
    bounds = mean_bounds(np.log(np.maximum(changes, LEAST)).tolist(), alpha)
    value = math.exp(bounds.mean)
    passed, undecided = _within(bounds, math.log(share))
    return Gate(
        "video",
        "PASS" if passed else "FAIL",
        value,
        share,
        f"Videos change by {value:.1%} of what another seed changes, "
        f"{_at_most(None if bounds.high is None else math.exp(bounds.high))}, with {share:.0%} allowed",
        open=undecided,
    )


def drift_gate(name: str, ratios: Sequence[float], alpha: float = 1 - CONFIDENCE, limit: float = DRIFT_LIMIT) -> Gate:
    """A property of the videos must not move, up or down, as a ratio of tuned over unaccelerated.

    What is judged is the mean of |log ratio| over prompts, in which ups and downs do not cancel. Its bound takes the
    scatter of the signed log ratios, because magnitudes of values that scatter about 0 are skewed: their own standard
    deviation makes the bound miss two to four times as often as it may. With the signed one it misses as often as it
    should when log ratios are normally distributed, about whatever mean.

    Args:
        name: the property.
        ratios: one a prompt; 0 (a video that froze) fails for good.
        alpha: how often the bound may miss.
        limit: largest change allowed.
    """
    logs = np.log(np.clip(np.nan_to_num(ratios), LEAST, 1 / LEAST))
    spread = float(np.std(logs, ddof=1)) if len(logs) > 1 else None
    bounds = mean_bounds(np.abs(logs).tolist(), alpha, spread)
    value = math.expm1(bounds.mean)
    lost = int(np.sum(np.abs(logs) >= -math.log(LEAST)))
    if lost:
        message = f"{name.capitalize()} vanishes in {lost} of {len(logs)} videos"
        return Gate(name, "FAIL", value, limit, message)
    passed, undecided = _within(bounds, math.log1p(limit))
    return Gate(
        name,
        "PASS" if passed else "FAIL",
        value,
        limit,
        f"{name.capitalize()} moves by {value:.1%}, {math.expm1(logs.mean()):+.1%} on the whole, "
        f"{_at_most(None if bounds.high is None else math.expm1(bounds.high))}, with {limit:.0%} allowed",
        open=undecided,
    )


def _within(bounds: Bounds, limit: float) -> tuple[bool, bool]:
    """Whether the upper bound, or a single value, is within the limit; and whether that is undecided."""
    if bounds.low is None or bounds.high is None:
        return bounds.mean <= limit, False
    return bounds.high <= limit, bounds.low <= limit < bounds.high


def _at_most(high: float | None) -> str:
    """The upper bound in words."""
    if high is None:
        return "in the only pair (n = 1, no interval)"
    return f"with {CONFIDENCE:.0%} confidence at most {high:.1%}" if high < 10 else "too few alike to bound it"


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


def prediction_gate(predicted_speedup: float, measured_speedup: float, limit: float = PREDICTION_LIMIT) -> Gate:
    """Warn when the certified schedule ran much slower or faster than the corrected latency model said.

    Args:
        predicted_speedup, measured_speedup: denoising speed-ups of the schedule that was certified.
        limit: relative error that is unremarkable.
    """
    error = measured_speedup / predicted_speedup - 1
    return Gate(
        "prediction",
        "PASS" if abs(error) <= limit else "WARN",
        error,
        limit,
        f"Denoising is {measured_speedup:.2f}x faster where {predicted_speedup:.2f}x was predicted ({error:+.1%}), "
        f"with {limit:.0%} unremarkable",
    )


def agreement_gate(agreements: Mapping[str, Agreement], limit: float = AGREEMENT_LIMIT) -> Gate:
    """Warn when two prompts rank the sites by similarity differently; the paper takes the pattern to be the model's.

    Args:
        agreements: by feature; the worst one counts.
        limit: least rank correlation that is unremarkable.
    """
    feature, worst = min(agreements.items(), key=lambda item: item[1].spearman)
    return Gate(
        "agreement",
        "PASS" if worst.spearman >= limit else "WARN",
        worst.spearman,
        limit,
        f"Two prompts rank the sites by similarity of {feature} with a correlation of {worst.spearman:.2f} "
        f"({worst.low:.2f} to {worst.high:.2f}), the lowest of {', '.join(agreements)}, with {limit:g} expected",
    )


def observation_gate(recomputed: float, limit: float = RECOMPUTED_LIMIT) -> Gate:
    """Warn when attention recomputed from the queries, keys and values seen is not what the model computed.

    A mask or a scale the profiler does not know makes the predicted errors of reduced keys and values worthless.

    Args:
        recomputed: ||O' - O||^2 / ||O||^2 of the sampled rows, at the worst site.
        limit: what rounding explains.
    """
    return Gate(
        "observation",
        "PASS" if recomputed <= limit else "WARN",
        recomputed,
        limit,
        f"Attention recomputed from what was observed is off by {recomputed:.1e} (relative, squared), with {limit:g} "
        "unremarkable",
    )
