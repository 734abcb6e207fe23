"""Which finalist is to be certified: what was measured of each and what is predicted, carried to the speed wanted."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tuner.context import Context
from tuner.latency.fit import Evidence
from tuner.latency.model import LatencyModel
from tuner.run.pair import Pair
from tuner.search.result import Candidate, SearchResult
from tuner.search.study import rebuild
from tuner.stages.profile import Profiled

CLOSE = 0.01  # of the aim; a schedule measured there is left as it is
MISFIT = 0.015  # standard deviation of a schedule's own log speed-up around the latency model
LEAST_ERROR = 1e-12  # below what floating point gets wrong


@dataclass(frozen=True)
class Verified:
    """One finalist and what a real generation showed.

    Attributes:
        candidate: the schedule with its predictions.
        predicted_speedup: what the latency model expected before this measurement.
        pair: its generation beside the plain one.
        mse: mean squared error between the two videos, values in [0, 1].
    """

    candidate: Candidate
    predicted_speedup: float
    pair: Pair
    mse: float

    @property
    def measured_speedup(self) -> float:
        """Denoising speed-up of the pair."""
        return self.pair.denoise.speedup

    @property
    def evidence(self) -> Evidence:
        """For the latency model."""
        estimate = self.pair.denoise
        return Evidence(self.candidate.schedule, estimate.log_speedup, estimate.standard_error)


@dataclass(frozen=True)
class Verification:
    """Every finalist measured, the schedule chosen, and what it was chosen by.

    Attributes:
        chosen: what is to be certified; where no finalist was measured close to the aim, the best one's kind solved
            again with the pooled latency model.
        predicted_speedup: of the chosen schedule, by the pooled model and its own measurement.
        verified: the finalists.
        result: the last search.
        model: latency model with all measurements pooled.
        runner_up: the best of another kind; None where there is none.
    """

    chosen: Candidate
    predicted_speedup: float
    verified: tuple[Verified, ...]
    result: SearchResult
    model: LatencyModel
    runner_up: Candidate | None = None


def believed_speedup(model: LatencyModel, candidate: Candidate, measured: Sequence[Evidence]) -> float:
    """What a schedule is believed to give: the model's prediction and its own measurements, by their precision."""
    total, weights = math.log(model.speedup(candidate.schedule)) / MISFIT**2, 1 / MISFIT**2
    known = candidate.schedule.content_hash()
    for evidence in measured:
        if evidence.schedule.content_hash() == known:
            total += evidence.log_speedup / evidence.standard_error**2
            weights += 1 / evidence.standard_error**2
    return math.exp(total / weights)


def aimed(
    ctx: Context,
    profiled: Profiled,
    model: LatencyModel,
    candidate: Candidate,
    measured: Sequence[Evidence],
    aim: float,
) -> tuple[Candidate, float]:
    """The candidate where it is believed to give what is wanted, or else its kind blended along the frontier.

    Args:
        ctx, profiled: the run.
        model: latency model with everything pooled.
        candidate: where to start from.
        measured: what was measured of any schedule.
        aim: denoising speed-up wanted.

    Returns:
        The candidate and the speed-up it is believed to give.
    """
    believed = believed_speedup(model, candidate, measured)
    if abs(believed / aim - 1) <= CLOSE:
        return candidate, believed
    own = believed / model.speedup(candidate.schedule)  # what sets this kind apart from the model
    found = rebuild(candidate.recipe, profiled.profile, model, ctx.space, aim / own)
    return found, model.speedup(found.schedule) * own


@dataclass(frozen=True)
class Option:
    """A kind that was measured, at the speed wanted.

    Attributes:
        candidate: its schedule for that.
        believed: the speed-up that it is believed to give.
        error: geometric mean of its predicted error and of the errors measured with its kind, each carried to that
            speed along the surrogate's frontier of the kind; for comparison with others that were measured on the same
            prompts.
    """

    candidate: Candidate
    believed: float
    error: float


def options(
    ctx: Context,
    profiled: Profiled,
    verified: Sequence[Verified],
    model: LatencyModel,
    aim: float,
    of: Collection[str] = (),
) -> list[Option]:
    """What there is to choose from, best first; kinds that are not fast enough are left out where another one is.

    Errors predicted count like those of one more prompt: over the schedules of docs/surrogate-30.md (and -8.md), the
    mean of both logarithms, with one prompt measured, chose schedules 0.42 dB (1.55 dB) from the best of three on the
    other prompts, measurements alone 0.58 dB (1.63 dB).

    Args:
        ctx, profiled: the run.
        verified: everything that was measured.
        model: latency model with everything pooled.
        aim: denoising speed-up wanted.
        of: kinds; empty for all.
    """
    measured = [v.evidence for v in verified]
    found = []
    for kind in dict.fromkeys(v.candidate.kind for v in verified):
        if of and kind not in of:
            continue
        own = [v for v in verified if v.candidate.kind == kind]
        candidate, believed = aimed(ctx, profiled, model, own[-1].candidate, measured, aim)
        predicted = max(candidate.predicted_error, LEAST_ERROR)
        carried = [v.mse * predicted / max(v.candidate.predicted_error, LEAST_ERROR) for v in own]
        logarithms = [math.log(max(error, LEAST_ERROR)) for error in (predicted, *carried)]
        found.append(Option(candidate, believed, math.exp(sum(logarithms) / len(logarithms))))
    fast = [option for option in found if option.believed >= aim * (1 - CLOSE)]
    return sorted(fast, key=lambda o: o.error) if fast else sorted(found, key=lambda o: -o.believed)
