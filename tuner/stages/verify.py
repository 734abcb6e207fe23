"""Finalists become real generations, in lock-step with plain ones; the two best ones meet again on another prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from tuner.context import Context, describe
from tuner.errors import BudgetExhaustedError, InfeasibleError, NonFiniteError
from tuner.latency.fit import Evidence, fit
from tuner.latency.model import LatencyModel
from tuner.quality.metrics import mse
from tuner.search.record import from_record, to_record
from tuner.search.result import Candidate, SearchResult
from tuner.search.study import search
from tuner.stages.choice import Verification, Verified, aimed, options
from tuner.stages.preflight import SURE, Preflight
from tuner.stages.profile import Profiled

STAGE, SEARCH = "verify", "search"
FINALISTS, IN_RUN_OFF = 4, 2
AIM = 0.035  # searched above the target: certificates came out 0.4 % lower (SD 1.1 %), and may lie up to 5 % above it
HOPELESS = 1.5  # `Candidate.excess`; more than what the surrogate's ranking gets wrong


def run_search(
    ctx: Context, profiled: Profiled, model: LatencyModel, target: float, copied: SearchResult | None = None
) -> SearchResult:
    """Search on the surrogate, at most for what it says can be reached; costs no device time.

    The result is recorded: equal searches are made once.

    Args:
        ctx, profiled, model: the run so far.
        target: denoising speed-up wanted.
        copied: see `tuner.search.study.search`.
    """
    key: dict[str, Any] = {
        "kind": "search",
        "profile": profiled.content_hash,
        "latency": model.to_dict(),
        "space": ctx.space.model_dump(mode="json"),
        "target": target,
        "trials": ctx.options.trials,
        "seed": ctx.options.seed,
    }
    if copied is not None:
        key["copied"] = True
    known = ctx.instrument.store.get(key)
    if known is not None:
        return from_record(known.values)

    def on_trial(trial: int, total: int, best: float | None) -> None:
        ctx.progress.advance(trial, total, "" if best is None else f"best predicted error {best:.4g}")

    result = search(
        profiled.profile,
        model,
        ctx.space,
        target,
        trials=ctx.options.trials,
        seed=ctx.options.seed,
        progress=on_trial,
        or_fastest=True,
        keep=ctx.keep_study,
        copied=copied,
    )
    if not ctx.instrument.store.read_only:
        ctx.instrument.store.put(key, to_record(result))
    return result


def remembers(candidates: Iterable[Candidate]) -> bool:
    """Whether one of them restores with memory or leaves steps out."""
    return any(candidate.recipe.form == "windows" for candidate in candidates)


def next_finalist(
    candidates: Sequence[Candidate], tried: Collection[str], verified: Sequence[Candidate] = ()
) -> Candidate | None:
    """The first candidate of a kind that was not tried yet; kinds predicted to be far worse are given up.

    Where a schedule with memory works, those that copy are far worse: the two have no yardstick in common.

    Args:
        candidates: of the last search, in its order.
        tried: kinds that were generated with, whatever came of it.
        verified: those that something came of.
    """
    with_memory = remembers(verified)
    left = (c for c in candidates if c.kind not in tried and c.excess <= HOPELESS)
    return next((c for c in left if c.recipe.form == "windows" or not with_memory), None)


def finalists(
    candidates: Sequence[Candidate], count: int, tried: Collection[str], verified: Sequence[Candidate] = ()
) -> list[Candidate]:
    """The next so many of one search, each taken to work when the one after it is chosen; see `next_finalist`."""
    found: list[Candidate] = []
    while len(found) < count:
        kinds = [*tried, *(candidate.kind for candidate in found)]
        candidate = next_finalist(candidates, kinds, [*verified, *found])
        if candidate is None:
            break
        found.append(candidate)
    return found


def verify(
    ctx: Context,
    early: Preflight,
    profiled: Profiled,
    keep: Callable[[Verification], None],
    known: Verification | None = None,
) -> Verification:
    """Measure up to four finalists of different kinds, see `next_finalist`, then the two best again, and choose.

    A search that finds nothing better ends verification; what was found stays found. Where several are measured at
    the same time, they come from one search. Once a schedule with memory works, what copies is not searched again.

    Args:
        ctx: the run.
        early: the latency model.
        profiled: the profile.
        keep: told of the best so far after every finalist.
        known: of another target of the run.

    Raises:
        InfeasibleError: with every measurement pooled the target is out of reach beyond doubt.
        BudgetExhaustedError: the budget does not hold the first finalist.
        NonFiniteError: every finalist makes the model produce NaN.
    """
    target = ctx.options.target_speedup
    aim = target * (1 + AIM)
    model = early.model
    verified: list[Verified] = []
    broken: NonFiniteError | None = None
    verification: Verification | None = None
    tried: list[str] = []
    copied = None if known is None else settled(known)
    while len(tried) < FINALISTS:
        ctx.progress.stage(SEARCH, f"round {len(tried) + 1}, {aim:.3g}x")
        result = run_search(ctx, profiled, model, aim, copied)
        at_once = min(max(1, ctx.options.at_once), FINALISTS - len(tried))
        found = finalists(result.candidates, at_once, tried, [v.candidate for v in verified])
        if not found:
            break
        titles = [f"finalist {len(tried) + i}:" for i in range(1, len(found) + 1)]
        offers = [(candidate, model.speedup(candidate.schedule)) for candidate in found]
        before = len(verified)
        try:
            for candidate, outcome in measure(ctx, ctx.tuning_prompt, offers, titles):
                tried.append(candidate.kind)
                if isinstance(outcome, NonFiniteError):
                    broken = outcome
                else:
                    verified.append(outcome)
        except BudgetExhaustedError:
            if not verified:
                raise
            if len(verified) == before:
                break
        if len(verified) == before:
            continue
        model = fit(early.model, [v.evidence for v in verified])
        verification = choose(ctx, profiled, verified, result, model, aim)
        copied = settled(verification)
        _show(ctx, verification, keep)
    if verification is None:
        raise broken or InfeasibleError(f"No schedule for {target:g}x was found; ask for less.")
    after = run_off(ctx, early, profiled, verification, aim)
    if after is not verification:
        _show(ctx, after, keep)
    _require_attainable(after, target)
    return after


def settled(verification: Verification) -> SearchResult | None:
    """Its search, where it told enough of schedules that copy: others work."""
    return verification.result if remembers(v.candidate for v in verification.verified) else None


def measure(
    ctx: Context, prompt: str, offers: Sequence[tuple[Candidate, float]], titles: Sequence[str]
) -> Iterator[tuple[Candidate, Verified | NonFiniteError]]:
    """Generate with each schedule beside a plain one; what is wanted is told ahead, for workers to measure at once.

    Args:
        ctx: the run.
        prompt: one to tune on.
        offers: schedules, and the denoising speed-up expected of each.
        titles: of each, for the progress shown.

    Raises:
        BudgetExhaustedError: the budget does not hold the next one.
    """
    wanted = [(prompt, ctx.tuning_seed + 1, candidate.schedule, speedup) for candidate, speedup in offers]
    ctx.instrument.ahead([ctx.instrument.pair_request(STAGE, *each) for each in wanted], ctx.progress.advance)
    for (candidate, speedup), title, each in zip(offers, titles, wanted, strict=True):
        ctx.progress.stage(STAGE, f"{title} {describe(candidate.schedule)}")
        try:
            pair = ctx.instrument.pair(STAGE, *each)
        except NonFiniteError as error:
            yield candidate, error
        else:
            yield candidate, Verified(candidate, speedup, pair, mse(pair.tuned.video, pair.plain.video))


def _show(ctx: Context, verification: Verification, keep: Callable[[Verification], None]) -> None:
    keep(verification)
    ctx.report_budget()
    ctx.progress.best(f"{verification.predicted_speedup:.2f}x expected of {verification.chosen.label}")


def choose(
    ctx: Context,
    profiled: Profiled,
    verified: Sequence[Verified],
    result: SearchResult,
    model: LatencyModel,
    aim: float,
    of: Collection[str] = (),
) -> Verification:
    """The best of `options`, and the next best."""
    best, *others = options(ctx, profiled, verified, model, aim, of)
    runner_up = others[0].candidate if others else None
    return Verification(best.candidate, best.believed, tuple(verified), result, model, runner_up)


def run_off(ctx: Context, early: Preflight, profiled: Profiled, before: Verification, aim: float) -> Verification:
    """Measure the two best kinds, now aimed better, on another prompt, and choose again, of these two.

    What is best for one prompt often is not for others: on tiny-mochi at 1.35x one kind was 1.5 dB worse than another
    where it was measured and faster, and 5 to 20 dB worse on each of four other prompts. Where the budget does not hold
    it, the choice stays as it was.

    Args:
        ctx, early, profiled: the run.
        before: all finalists measured on one prompt.
        aim: denoising speed-up wanted.
    """
    best = options(ctx, profiled, before.verified, before.model, aim)[:IN_RUN_OFF]
    if len(best) < IN_RUN_OFF:
        return before
    offers = [(option.candidate, option.believed) for option in best]
    try:
        found = measure(ctx, ctx.entry.tuning_prompts(2)[1], offers, ["on another prompt:"] * len(offers))
        sound = [outcome for _, outcome in found if isinstance(outcome, Verified)]
    except BudgetExhaustedError:
        return before
    if not sound:
        return before
    verified = [*before.verified, *sound]
    model = fit(early.model, [v.evidence for v in verified])
    return choose(ctx, profiled, verified, before.result, model, aim, [v.candidate.kind for v in sound])


def _require_attainable(verification: Verification, target: float) -> None:
    sd = verification.model.log_speedup_sd(verification.chosen.schedule)
    best = max(verification.result.best_attainable, verification.predicted_speedup)
    if best * math.exp(SURE * sd) < target:
        raise InfeasibleError(
            f"{target:g}x is out of reach: with the finalists measured, reducing and reusing as much as possible is "
            f"expected to give {best:.2f}x; ask for less."
        )


def corrected(
    ctx: Context,
    profiled: Profiled,
    verification: Verification,
    evidence: Sequence[Evidence],
    aim: float,
    like: Candidate | None = None,
) -> Verification:
    """Another schedule of the chosen kind, or of a given one, for a speed-up, with further measurements pooled.

    Args:
        ctx, profiled, verification: the run so far.
        evidence: what certification measured.
        aim: denoising speed-up wanted.
        like: of the kind wanted.
    """
    measured = [*(v.evidence for v in verification.verified), *evidence]
    model = fit(verification.model, evidence)
    candidate, believed = aimed(ctx, profiled, model, like or verification.chosen, measured, aim)
    return replace(verification, chosen=candidate, predicted_speedup=believed, model=model)
