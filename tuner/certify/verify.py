"""Finalists become real generations, until the others are not worth one; what they take corrects the latency model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tuner.errors import InfeasibleError
from tuner.latency.model import LatencyModel
from tuner.latency.preflight import Preflight
from tuner.profile.stage import Profiled
from tuner.quality.metrics import mse
from tuner.run.context import Context, describe
from tuner.search.result import Candidate, SearchResult
from tuner.search.study import search

STAGE = "verify"
FINALISTS = 4
MARGINS = (0.04, 0.055)  # searched above the target: what the lower bound and other prompts will cost; more than needed
MARGIN_OF_QUIET, MARGIN_PER_SCATTER = 0.03, 2.0  # costs quality, so a quiet machine gets less than a noisy one
ACCEPTED = 0.6  # of that margin has to show when measured
AGREED = 0.03  # between predicted and measured speed-up
HOPELESS = 1.5  # `Candidate.excess`; more than what the surrogate's ranking gets wrong
BASELINE_STEPS = 4


@dataclass(frozen=True)
class Verified:
    """One finalist and what a real generation showed.

    Attributes:
        candidate: the schedule with its predictions.
        predicted_speedup: denoising speed-up the latency model expected before this measurement.
        measured_speedup: unaccelerated steps timed right before and after it, over its own steps.
        mse: mean squared error of its video to the unaccelerated one, values in [0, 1].
        reduced_sites: (feature, block, step) sites that were really reduced.
    """

    candidate: Candidate
    predicted_speedup: float
    measured_speedup: float
    mse: float
    reduced_sites: int


@dataclass(frozen=True)
class Verification:
    """Every finalist measured, the one chosen, the last search, and how far above the target it searched."""

    chosen: Verified
    verified: list[Verified]
    result: SearchResult
    model: LatencyModel
    margin: float


def search_margin(scatter: float) -> float:
    """How far above the target to search, as a share of it.

    Args:
        scatter: relative median absolute deviation of equal steps on this machine.
    """
    return float(np.clip(MARGIN_OF_QUIET + MARGIN_PER_SCATTER * scatter, *MARGINS))


def run_search(ctx: Context, profiled: Profiled, model: LatencyModel, margin: float) -> SearchResult:
    """Search on the surrogate; costs no device time."""

    def on_trial(trial: int, total: int, best: float | None) -> None:
        detail = "" if best is None else f"best predicted error {best:.4g}"
        ctx.progress.advance(trial, total, detail)

    return search(
        profiled.profile,
        model,
        ctx.space,
        ctx.options.target_speedup,
        margin=margin,
        trials=ctx.options.trials,
        seed=ctx.options.seed,
        progress=on_trial,
    )


def _measure(
    ctx: Context, profiled: Profiled, candidate: Candidate, model: LatencyModel, number: int
) -> tuple[Verified, float]:
    """The finalist's generation between two bursts of unaccelerated steps; also its own denoising seconds."""
    predicted = model.speedup(candidate.schedule)
    before = ctx.meter.steps(STAGE, BASELINE_STEPS, ctx.tuning_prompt, repeat=100 + 2 * number)[1:]
    measured = ctx.meter.generation(
        STAGE, ctx.tuning_prompt, ctx.tuning_seed, candidate.schedule, expected_ie=1.0 / max(1.0, predicted)
    )
    after = ctx.meter.steps(STAGE, BASELINE_STEPS, ctx.tuning_prompt, repeat=101 + 2 * number)[1:]
    baseline = float(np.median(np.concatenate([before, after]))) * len(measured.step_seconds)
    tuned = float(measured.step_seconds.sum())
    error = mse(measured.video, profiled.video)
    verified = Verified(candidate, predicted, baseline / tuned, error, measured.reduced_sites)
    return verified, tuned * model.baseline_seconds / baseline


def next_finalist(candidates: list[Candidate], verified: list[Verified], accepted: float) -> Candidate | None:
    """The first candidate whose kind still has to be measured, or measured again.

    Kinds predicted to be far worse than the best by every trust are given up unmeasured. A kind is settled once a
    generation was fast enough and took what was predicted; until then its candidate is measured again with the
    corrected latency model.

    Args:
        candidates: of the last search, in its order.
        verified: what was measured so far, in order.
        accepted: measured denoising speed-up that is fast enough.
    """
    known = {v.candidate.schedule.content_hash() for v in verified}
    settled = {}
    for v in verified:
        fast = v.measured_speedup >= accepted
        settled[v.candidate.kind] = fast and abs(v.measured_speedup / v.predicted_speedup - 1) <= AGREED
    for candidate in candidates:
        measured = settled.get(candidate.kind) or candidate.schedule.content_hash() in known
        if not measured and candidate.excess <= HOPELESS:
            return candidate
    return None


def verify(ctx: Context, preflight: Preflight, profiled: Profiled) -> Verification:
    """Measure up to four finalists of searches with the latency model corrected so far, see `next_finalist`.

    Raises:
        InfeasibleError: no finalist reached the target when measured.
        BudgetExhaustedError: the budget ended before the first finalist was measured.
    """
    model, target = preflight.model, ctx.options.target_speedup
    margin = search_margin(preflight.scatter)
    accepted = target * (1 + ACCEPTED * margin)
    verified: list[Verified] = []
    result: SearchResult | None = None
    for number in range(FINALISTS):
        ctx.progress.stage("search", f"round {number + 1}, target {target:g}x plus {margin:.0%}")
        result = run_search(ctx, profiled, model, margin)
        candidate = next_finalist(result.candidates, verified, accepted)
        if candidate is None or (verified and ctx.ledger.remaining_ie < 1.0 / target + 0.3):
            break
        ctx.progress.stage(STAGE, f"finalist {number + 1}: {describe(candidate.schedule)}")
        measured, seconds = _measure(ctx, profiled, candidate, model, number)
        verified.append(measured)
        model = model.refit(seconds, candidate.schedule)
        ctx.report_budget()
        best = _choose(verified, accepted, target)
        if best is not None:
            ctx.progress.best(f"{best.measured_speedup:.2f}x, mean squared error {best.mse:.2e}")
    chosen = _choose(verified, accepted, target)
    if chosen is None or result is None:
        fastest = max((v.measured_speedup for v in verified), default=1.0)
        raise InfeasibleError(
            f"No schedule reached {target:g}x when measured; the fastest finalist gave {fastest:.2f}x; ask for less."
        )
    return Verification(chosen, verified, result, model, margin)


def correct(
    ctx: Context, profiled: Profiled, verification: Verification, measured_speedup: float, margin: float
) -> Verification:
    """Search again with the latency model corrected by what certification measured, and generate the new finalist.

    Args:
        ctx: the run.
        profiled: the profile.
        verification: what was chosen before.
        measured_speedup: denoising speed-up of that choice on held-out prompts.
        margin: how far above the target to search now.

    Raises:
        InfeasibleError: with the corrected model the target is out of reach.
        BudgetExhaustedError: the budget does not hold one more generation.
    """
    before = verification.model
    model = before.refit(before.baseline_seconds / measured_speedup, verification.chosen.candidate.schedule)
    ctx.progress.stage("search", f"again, because held-out prompts gave {measured_speedup:.2f}x")
    result = run_search(ctx, profiled, model, margin)
    kind = verification.chosen.candidate.kind
    candidate = next((c for c in result.candidates if c.kind == kind), result.candidates[0])
    ctx.progress.stage(STAGE, f"finalist {len(verification.verified) + 1}: {describe(candidate.schedule)}")
    chosen, _ = _measure(ctx, profiled, candidate, model, len(verification.verified))
    return Verification(chosen, [*verification.verified, chosen], result, model, margin)


def _choose(verified: list[Verified], accepted: float, target: float) -> Verified | None:
    """The closest to the unaccelerated video among those fast enough to be certified, or else among the fast enough."""
    for needed in (accepted, target):
        fast = [v for v in verified if v.measured_speedup >= needed]
        if fast:
            return min(fast, key=lambda v: v.mse)
    return None
