"""How much faster a schedule is in one pair: plain and tuned steps measured in lock-step.

Beside every tuned step lies a plain step of the same position and the same second. Every rule below is fixed before
anything is measured, and treats plain and tuned alike, so that a disturbance which hits either as often as the other
does not move the result. A step that was disturbed is counted, but not left out: lock-step lets most disturbances hit
both sides, so that its ratio still tells; how far it may move the estimate is limited instead. On a busy machine (52
pairs on 2 processors, quiet and disturbed) leaving such steps out made pairs scatter by 3.0 %, this by 2.3 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

WINDOW = 15  # steps whose median is the pace of the machine around a step

# A step counts as disturbed when its time is off its neighbours' by the first factor, or its ratio off what the
# schedule's shape leads one to expect by the second. Where the log of a ratio scatters by 8 %, that of a time scatters
# by 6 %: the limits then lie 7 and 4 standard deviations out, so that a quiet machine has next to none.
PACE_FACTOR = 1.5
RATIO_FACTOR = 1.35
SHORT, LEAST_OFF = 0.2, 0.02  # of a plain step; so short a step is disturbed only where it is off by more than that
MAX_DISTURBED = 0.5  # share of the steps beyond which a pair tells nothing
INFLUENCE = 2.0  # standard deviations; a step that is further off moves the estimate as one that is so far off would
LEAST_SPREAD = 0.02  # of the log ratios, for that limit: on a silent machine, a shape that does not quite fit stays
OF_NORMAL = 1.4826  # standard deviation over median absolute deviation of a normal distribution
ITERATIONS = 30  # of reweighting; the error shrinks at least by half in each

PROJECTIONS = np.linspace(0, 1.5, 16)  # what the rest of an attention module may take, as a multiple of its attention
MATCHINGS = np.linspace(0, 0.6, 13)  # what matching a feature everywhere may take, likewise
LEAST_SHAPE = 0.05  # of the ratio without any reduction; keeps what is expected of a step positive
LEAST_STANDARD_ERROR = 0.005  # no scatter inside a pair shows what moves the pair as a whole


@dataclass(frozen=True)
class PairedSteps:
    """The denoising steps of one pair, in order.

    Attributes:
        plain: (n,) seconds of the steps of the plain run, which all do the same work.
        tuned: (n,) seconds of the steps of the tuned run.
        attention: (n,) share of the attention work that the schedule leaves at each step; 1 is not reduced.
        broadcast: (n,) share of the blocks that broadcast, and so leave out more than attention; None is nowhere.
        matchings: (n,) features matched, mean over the blocks; None is none.
        skipped: (n,) share of the blocks that a cache left out altogether; None is nowhere.
    """

    plain: np.ndarray
    tuned: np.ndarray
    attention: np.ndarray
    broadcast: np.ndarray | None = None
    matchings: np.ndarray | None = None
    skipped: np.ndarray | None = None


@dataclass(frozen=True)
class PairEstimate:
    """The speed-up that one pair shows.

    Attributes:
        log_speedup: natural logarithm of plain over tuned time.
        standard_error: of `log_speedup`, from the scatter of the steps; infinite with a single one.
        disturbed: steps that were, see `PACE_FACTOR`.
        steps: all steps.
    """

    log_speedup: float
    standard_error: float
    disturbed: int
    steps: int

    @property
    def usable(self) -> bool:
        return self.disturbed <= MAX_DISTURBED * self.steps

    @property
    def speedup(self) -> float:
        return math.exp(self.log_speedup)


def estimate_pair(steps: PairedSteps) -> PairEstimate:
    """Total plain over total tuned time, with every plain step doing the same work.

    That is 1 / S = mean of q with q = tuned / plain at each step. Noise of a plain step makes the mean of such ratios
    too large (by 0.3 % where they scatter by 8 %), so they are split into a shape and a level:

        1 / S = mean(shape) exp(level),  level = typical log(q / shape),
        shape = c - b (1 - attention + p broadcast - m matchings)

    the level as a mean with weights `shape`, for which this equals the mean of q to first order in log(q / shape),
    whatever the shape; no step moves it by more than one that is `INFLUENCE` standard deviations off (Huber, 1964).
    Steps in which a cache left blocks out take a small part of a step, which a line through all of them could not tell
    from nothing: the shape of those that left out equally many is their median ratio.

    Raises:
        ValueError: there is no step, the lengths differ, or a time is not positive and finite.
    """
    plain, tuned, attention = (np.asarray(values, float) for values in (steps.plain, steps.tuned, steps.attention))
    broadcast, matchings, skipped = (
        np.zeros_like(attention) if values is None else np.asarray(values, float)
        for values in (steps.broadcast, steps.matchings, steps.skipped)
    )
    if not len(plain) == len(tuned) == len(attention) == len(broadcast) == len(matchings) == len(skipped) > 0:
        raise ValueError("estimate_pair needs equally many plain, tuned and attention values, at least one of each.")
    times, shares = np.concatenate([plain, tuned]), attention + broadcast + matchings + skipped
    if not (np.isfinite(times).all() and (times > 0).all() and np.isfinite(shares).all()):
        raise ValueError("estimate_pair needs times that are positive and finite, and finite shares of attention.")

    ratio, reduction, shape = tuned / plain, np.clip(1 - attention, 0, 1), np.empty_like(plain)
    for share in np.unique(skipped):
        alike = skipped == share
        if share > 0:
            shape[alike] = np.median(ratio[alike])
        else:
            shape[alike] = _shape(ratio[alike], reduction[alike], broadcast[alike], matchings[alike])
    return estimate_shaped(plain, tuned, shape)


def estimate_shaped(plain: np.ndarray, tuned: np.ndarray, shape: np.ndarray) -> PairEstimate:
    """The same where the shape is known, but for a factor.

    Args:
        plain, tuned: (n,) seconds of the steps, positive and finite.
        shape: (n,) ratios expected of the steps, positive.
    """
    residual = np.log(tuned / plain / shape)
    middle = float(np.median(residual))
    disturbed = np.abs(residual - middle) > math.log(RATIO_FACTOR)
    disturbed |= np.abs(np.log(tuned / shape / _running_median(tuned / shape))) > math.log(PACE_FACTOR)
    expected = shape * math.exp(middle)
    disturbed &= (expected >= SHORT) | (np.abs(tuned / plain - expected) > LEAST_OFF)
    disturbed |= np.abs(np.log(plain / _running_median(plain))) > math.log(PACE_FACTOR)
    level, standard_error = _level(residual, shape)
    return PairEstimate(
        log_speedup=-math.log(shape.mean()) - level,
        standard_error=standard_error,
        disturbed=int(disturbed.sum()),
        steps=len(plain),
    )


def _level(residual: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Huber's estimate of the weighted mean of values with outliers, and its standard error."""
    level = float(np.median(residual))
    limit = INFLUENCE * max(OF_NORMAL * float(np.median(np.abs(residual - level))), LEAST_SPREAD)
    for _ in range(ITERATIONS):
        pull = limit / np.maximum(np.abs(residual - level), limit)  # 1 within the limit
        level = float(np.average(residual, weights=weights * pull))
    within = float(np.average(np.abs(residual - level) <= limit, weights=weights))
    return level, _standard_error(np.clip(residual - level, -limit, limit), weights) / within


def _shape(ratio: np.ndarray, reduction: np.ndarray, broadcast: np.ndarray, matchings: np.ndarray) -> np.ndarray:
    """The ratios expected of a schedule whose steps save in proportion to the work they leave out.

    Broadcasting leaves out projections, too, and matching takes time of its own; what these take beside attention is
    tried out (see `PROJECTIONS`).

    Args:
        ratio: (n,) tuned over plain seconds.
        reduction: (n,) share of the attention work that is left out, 0 to 1.
        broadcast: (n,) share of the blocks.
        matchings: (n,) features matched, mean over the blocks.

    Returns:
        (n,) positive; the same everywhere where `reduction`, `broadcast` and `matchings` are.
    """
    of_projection, of_matching = (
        values if share.any() else (0.0,) for values, share in ((PROJECTIONS, broadcast), (MATCHINGS, matchings))
    )
    tried = [_line(ratio, reduction + p * broadcast - m * matchings) for p in of_projection for m in of_matching]
    return min(tried, key=lambda shape: float(np.abs(np.log(ratio / shape)).sum()))


def _line(ratio: np.ndarray, reduction: np.ndarray) -> np.ndarray:
    """Ratios that fall in a line with what is left out.

    A line whose slope minimises sum |(q_i - q_j) - slope (r_i - r_j)| over all pairs of steps, which is rank regression
    with Wilcoxon scores (Jaeckel, 1972): disturbed steps cannot move it far. Its error is of second order.

    Args:
        ratio: (n,) tuned over plain seconds.
        reduction: (n,) work left out; negative is work added.

    Returns:
        (n,) positive; the same everywhere where `reduction` is.
    """
    i, j = np.triu_indices(len(ratio), 1)
    run = reduction[i] - reduction[j]
    i, j, run = i[run != 0], j[run != 0], run[run != 0]
    if len(run) == 0:
        return np.full_like(ratio, np.median(ratio))
    slopes = (ratio[i] - ratio[j]) / run
    order = np.argsort(slopes)
    weight = np.cumsum(np.abs(run)[order])
    slope = min(float(slopes[order][np.searchsorted(weight, weight[-1] / 2)]), 0.0)
    intercept = float(np.median(ratio - slope * reduction))
    return np.maximum(intercept + slope * reduction, LEAST_SHAPE * intercept)


def _running_median(values: np.ndarray) -> np.ndarray:
    """(n,) median of the `WINDOW` values around each, with the series mirrored at its ends."""
    return np.asarray(median_filter(values, WINDOW))


def _standard_error(deviations: np.ndarray, weights: np.ndarray) -> float:
    """Of the weighted mean of values that may follow an autoregression of first order, by its effective sample size."""
    count = len(deviations)
    if count < 2:
        return math.inf
    variance = float(deviations @ deviations) / (count - 1)
    lag = float(deviations[1:] @ deviations[:-1]) / (count - 1)
    correlation = min(max(lag / variance, 0.0), 0.9) if variance > 0 else 0.0
    share = float(weights @ weights) / float(weights.sum()) ** 2  # 1 / count where all weigh alike
    return max(math.sqrt(variance * share * (1 + correlation) / (1 - correlation)), LEAST_STANDARD_ERROR)


def relative_mad(values: np.ndarray) -> float:
    """Median absolute deviation over the median."""
    median = float(np.median(values))
    return float(np.median(np.abs(values - median)) / median)
