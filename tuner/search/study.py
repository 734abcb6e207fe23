"""Searches schedules on the surrogate with Optuna; no device is touched and nothing is stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import optuna

from asymrnr.schedule import Schedule
from tuner.errors import InfeasibleError, UsageError
from tuner.latency.model import LatencyModel
from tuner.profile.profile import Profile
from tuner.search.feasibility import best_attainable, profiled
from tuner.search.memory import MemorySolver
from tuner.search.recipe import described, schedule_of
from tuner.search.result import Candidate, FrontierPoint, Recipe, SearchResult, TrialRecord
from tuner.search.space import SearchSpace, WarmStart, error_models
from tuner.search.table import TableSolver, undominated
from tuner.search.threshold import rule_from, rule_parameters

FEATURES = ("Q", "V")
UNIFORM = (WarmStart(name="uniform Q", Q={0.0: 0.5}), WarmStart(name="uniform Q and V", Q={0.0: 0.5}, V={0.0: 0.3}))
TABLE_SHARE = 1 / 3
TOLERANCE = 1e-6
Progress = Callable[[int, int, float | None], None]


@dataclass(frozen=True)
class _Found:
    """A schedule a trial came up with."""

    schedule: Schedule
    recipe: Recipe
    kind: str  # what makes two schedules different in more than detail
    label: str
    speedup: float
    errors: tuple[float, ...]  # by every trust of the space

    @property
    def error(self) -> float:
        """By the common yardstick."""
        return self.errors[0]


class _Search:
    """One search: what trials need to know, and what they found."""

    def __init__(self, profile: Profile, model: LatencyModel, space: SearchSpace, goal: float) -> None:
        self.profile, self.model, self.space, self.goal = profile, model, space, goal
        self.solvers = [TableSolver(errors, model) for errors in error_models(profile, space)]
        self.tables = self.solvers[0]
        self.pairs = profiled(profile, space)
        self.strides = list(dict.fromkeys(stride for stride, _ in self.pairs))
        self.cache_steps = list(dict.fromkeys(step for _, step in self.pairs))
        self.found: list[_Found] = []
        self.history: list[TrialRecord] = []
        self.best: float | None = None

    def site(self, trial: optuna.Trial) -> tuple[str, int]:
        stride = trial.suggest_categorical("stride", self.strides)
        return stride, int(trial.suggest_categorical("cache_step", [str(step) for step in self.cache_steps]))

    def table(self, yardstick: int, trial: optuna.Trial) -> _Found:
        """The Lagrangian solution for a sampled exponent and protection."""
        stride, cache_step = self.site(trial)
        exponent = float(trial.suggest_categorical("exponent", [f"{p:g}" for p in self.space.exponents]))
        limit = min(self.space.protected_steps, (self.profile.steps - 1) // 2)
        first, last = (trial.suggest_int(name, 0, limit) for name in ("protected_first", "protected_last"))
        return self.make(Recipe("table", stride, cache_step, yardstick, exponent, first, last))

    def threshold(self, trial: optuna.Trial) -> _Found:
        """A sampled rule of up to two levels per feature, scaled to the target."""
        stride, cache_step = self.site(trial)
        tiers = self.space.tiers
        rules = {}
        for feature in FEATURES:
            tier = trial.suggest_int(f"{feature}_tier", 0, tiers)
            rise = trial.suggest_int(f"{feature}_rise", 0, tiers)
            rate = trial.suggest_float(f"{feature}_rate", 0.0, 1.0)
            share = trial.suggest_float(f"{feature}_share", 0.0, 1.0)
            rules[feature] = rule_from(tier, rise, rate, share, tiers)
        return self.make(Recipe("threshold", stride, cache_step, rules=rules))

    def make(self, recipe: Recipe) -> _Found:
        """The recipe's schedule for the goal."""
        schedule = schedule_of(recipe, self.solvers, self.profile, self.model, self.goal)
        return self.judge(schedule, recipe, *described(recipe, self.solvers))

    def judge(self, schedule: Schedule, recipe: Recipe, kind: str, label: str) -> _Found:
        errors = tuple(solver.errors.predict(schedule) for solver in self.solvers)
        return _Found(schedule, recipe, kind, label, self.model.speedup(schedule), errors)

    def run(
        self,
        sample: Callable[[optuna.Trial], _Found],
        trials: int,
        seed: int,
        warm_starts: list[dict[str, Any]],
        report: Callable[[], None],
    ) -> None:
        """One in-memory study; trials that miss the goal are marked infeasible."""
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        for parameters in warm_starts:
            study.enqueue_trial(parameters)
        for _ in range(trials):
            trial = study.ask()
            found = sample(trial)
            missed = self.goal * (1 - TOLERANCE) - found.speedup
            trial.set_constraint("speedup", missed)
            study.tell(trial, found.errors[found.recipe.yardstick])
            if missed <= 0:
                self.found.append(found)
                self.best = found.error if self.best is None else min(self.best, found.error)
            self.history.append(
                TrialRecord(
                    len(self.history),
                    found.speedup,
                    found.error,
                    found.recipe.form,
                    math.nan if self.best is None else self.best,
                )
            )
            report()

    def threshold_warm_starts(self) -> list[dict[str, Any]]:
        """Uniform rates and the space's rules as trial parameters, with every stride and cache step they do not fix."""
        starts = []
        for start in (*UNIFORM, *self.space.warm_starts):
            for stride, cache_step in self.pairs:
                if start.stride in (None, stride) and start.cache_step in (None, cache_step):
                    parameters: dict[str, Any] = {"stride": stride, "cache_step": str(cache_step)}
                    for feature in FEATURES:
                        rule = rule_parameters(getattr(start, feature), self.space.tiers)
                        parameters |= {f"{feature}_{name}": value for name, value in rule.items()}
                    starts.append(parameters)
        return starts

    def table_warm_starts(self) -> list[dict[str, Any]]:
        """Every stride and cache step with every exponent, p = 2 first, nothing protected."""
        exponents = sorted(self.space.exponents, key=lambda p: abs(p - 2))
        return [
            {"stride": stride, "cache_step": str(step), "exponent": f"{p:g}", "protected_first": 0, "protected_last": 0}
            for p in exponents
            for stride, step in self.pairs
        ]

    def candidates(self, bound: float) -> list[Candidate]:
        """The two best tables of different strides, the best table of every other trust, the best rule; by excess."""
        least = [min(found.errors[i] for found in self.found) for i in range(len(self.solvers))]
        chosen: list[_Found] = []
        for found in sorted(self.found, key=lambda found: found.errors[found.recipe.yardstick]):
            alike = [other for other in chosen if _family(other) == _family(found)]
            wanted = 2 if _family(found) == ("table", 0) else 1
            if len(alike) < wanted and all(found.kind != other.kind for other in alike):
                chosen.append(found)
        candidates = [
            self.candidate(found, bound, min(error / best for error, best in zip(found.errors, least, strict=True)))
            for found in chosen
        ]
        return sorted(candidates, key=lambda candidate: (candidate.excess, candidate.predicted_error))

    def candidate(self, found: _Found, bound: float, excess: float) -> Candidate:
        return Candidate(
            schedule=found.schedule,
            predicted_seconds=self.model.predict(found.schedule),
            predicted_speedup=found.speedup,
            predicted_error=found.error,
            bound=bound,
            excess=excess,
            kind=found.kind,
            label=found.label,
            recipe=found.recipe,
        )

    def price(self) -> float | None:
        """See `SearchResult.price_of_interpretability`."""
        rule, table = (
            min((found.error for found in self.found if found.recipe.form == form), default=None)
            for form in ("threshold", "table")
        )
        return rule / table if rule is not None and table else None

    def threshold_points(self) -> list[FrontierPoint]:
        rules = [record for record in self.history if record.form == "threshold"]
        return undominated([FrontierPoint(round(record.speedup, 3), record.error) for record in rules])


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
) -> SearchResult:
    """Find schedules of least predicted error that are predicted to reach a speed-up.

    Where the profile has errors with memory, schedules that restore with memory and broadcast come first, one of every
    kind, found without trials. All that follows is about those that copy.

    A third of the trials solve tables, as many for every trust in the measured errors; the others sample threshold
    rules. In a common study the sampler would drop all but the form that wins on the yardstick, and which trust is
    right only generations can tell. Equal arguments give equal results.

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
    state = _Search(profile, latency_model, space, min(goal, copying * (1 - TOLERANCE)))

    def report() -> None:
        if progress is not None:
            progress(len(state.history), trials, state.best)

    trusts = len(space.trusts)
    table_trials = max(1, round(trials * TABLE_SHARE / trusts))
    if copying > 1 + TOLERANCE:  # otherwise the best ones reduce nothing
        with _quiet_optuna():
            for yardstick in range(trusts):
                state.run(partial(state.table, yardstick), table_trials, seed, state.table_warm_starts(), report)
            state.run(state.threshold, trials - trusts * table_trials, seed, state.threshold_warm_starts(), report)
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
    state = _Search(profile, latency_model, space, target_speedup)
    found = state.make(recipe)
    bound = state.tables.bound(target_speedup, state.pairs)
    return state.candidate(found, min(bound, found.error), 1.0)


def _family(found: _Found) -> tuple[str, int]:
    return found.recipe.form, found.recipe.yardstick


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Optuna announces every trial in its log; put its level back afterwards."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
