"""Searches schedules on the surrogate; no device is touched and nothing is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import optuna

from tuner.errors import InfeasibleError, UsageError
from tuner.latency.model import LatencyModel
from tuner.profile.profile import Profile
from tuner.search.copying import TOLERANCE, CopySearch
from tuner.search.feasibility import best_attainable, profiled
from tuner.search.memory import MemorySolver
from tuner.search.result import Candidate, Recipe, SearchResult
from tuner.search.space import SearchSpace

Progress = Callable[[int, int, float | None], None]
Keep = Callable[[optuna.Study, str], None]
"""Takes a finished study and what it is of."""


def search(
    profile: Profile,
    latency_model: LatencyModel,
    space: SearchSpace,
    target_speedup: float,
    margin: float = 0.0,
    trials: int = 300,
    seed: int = 0,
    progress: Progress | None = None,
    or_fastest: bool = False,
    keep: Keep | None = None,
    copied: SearchResult | None = None,
) -> SearchResult:
    """Find schedules of least predicted error that are predicted to reach a speed-up.

    Where the profile has errors with memory, schedules that restore with memory and broadcast come first, one of every
    kind, found without trials. All that follows is about those that copy.

    See `CopySearch.run_all` for the trials. Equal arguments give equal results.

    Args:
        profile: error curves and similarities.
        latency_model: predicts seconds.
        space: what may be chosen; strides and cache steps that were not profiled are left out.
        target_speedup: denoising speed-up wanted.
        margin: search for the target times 1 + margin, or for the best attainable speed-up if that is less.
        trials: number of trials in all.
        seed: of the sampler.
        progress: told (trials done, trials in all, least predicted error of a feasible trial so far).
        or_fastest: where the target is out of reach, search for the best attainable speed-up instead.
        keep: takes every study when it is finished.
        copied: an earlier result: what it says of schedules that copy stays, and where others reach the speed-up none
            of these is searched for, which is what takes the time.

    Raises:
        InfeasibleError: without `or_fastest`, not even the highest rates everywhere are predicted to reach the target;
            with it, no reduction is predicted to pay at all.
        UsageError: nothing of the space was profiled, or the model and the profile differ in shape.
    """
    if (profile.blocks, profile.steps) != (latency_model.blocks, latency_model.steps):
        raise UsageError("The latency model and the profile differ in their numbers of blocks or steps.")
    if not profiled(profile, space):
        raise UsageError("None of the search space's strides and cache steps was profiled; profile the model again.")
    if trials < (least := 1 + len(space.trusts)):
        raise UsageError(f"A search needs at least {least} trials, not {trials}.")
    memory = MemorySolver(profile, latency_model, space) if profile.memory_error else None
    if memory is not None and memory.attainable <= 1 + TOLERANCE:  # the limit on memory allows nothing
        memory = None
    # What copies is planned for steps that are all computed.
    copying = best_attainable(profile, latency_model, space) if latency_model.alongside is None else 1.0
    attainable = copying if memory is None else max(copying, memory.attainable)
    if attainable < target_speedup and (not or_fastest or attainable <= 1 + TOLERANCE):
        raise InfeasibleError(
            f"{target_speedup:g}x cannot be reached: reducing and reusing as much as possible is predicted to give "
            f"{attainable:.2f}x; ask for less."
        )
    goal = min(target_speedup * (1 + margin), attainable * (1 - TOLERANCE))
    if copied is not None and memory is not None and memory.attainable >= goal:
        frontier = memory.frontier()
        return replace(copied, candidates=memory.candidates(goal), best_attainable=attainable, memory_frontier=frontier)
    state = CopySearch(profile, latency_model, space, min(goal, copying * (1 - TOLERANCE)))

    def report(done: int, best: float | None) -> None:
        if progress is not None:
            progress(done, trials, best)

    if copying > 1 + TOLERANCE:  # otherwise the best ones reduce nothing
        state.run_all(trials, seed, report, keep)
    bound = state.tables.bound(state.goal, state.pairs)
    remembering = [] if memory is None else memory.candidates(goal)
    copies = state.candidates(bound) if state.found else []
    first = memory is None or memory.attainable >= goal or copying < goal
    candidates = [*remembering, *copies] if first else [*copies, *remembering]
    return SearchResult(
        candidates=candidates,
        history=state.history,
        frontier=state.tables.frontier(state.pairs),
        threshold_points=state.threshold_points(),
        bound=bound,
        best_attainable=attainable,
        price_of_interpretability=state.price(),
        memory_frontier=[] if memory is None else memory.frontier(),
    )


def rebuild(
    recipe: Recipe, profile: Profile, latency_model: LatencyModel, space: SearchSpace, target_speedup: float
) -> Candidate:
    """A candidate of a known kind for another speed, or the fastest of its kind where that is out of reach.

    Args:
        recipe: of the candidate that is known.
        profile, latency_model, space: see `search`.
        target_speedup: denoising speed-up wanted.
    """
    if recipe.form == "windows":
        return MemorySolver(profile, latency_model, space).candidate(recipe.sharing, target_speedup, recipe.window)
    state = CopySearch(profile, latency_model, space, target_speedup)
    found = state.make(recipe)
    bound = state.tables.bound(target_speedup, state.pairs)
    return state.candidate(found, min(bound, found.error), 1.0)
