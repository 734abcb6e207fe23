"""Searches schedules that copy, on the surrogate with Optuna: tables and threshold rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import optuna

from asymrnr.schedule import Schedule
from tuner.latency.model import LatencyModel
from tuner.profile.profile import Profile
from tuner.search.feasibility import profiled
from tuner.search.recipe import described, schedule_of
from tuner.search.result import Candidate, FrontierPoint, Recipe, TrialRecord
from tuner.search.space import SearchSpace, WarmStart, error_models
from tuner.search.table import TableSolver, undominated
from tuner.search.threshold import rule_from, rule_parameters

FEATURES = ("Q", "V")
UNIFORM = (WarmStart(name="uniform Q", Q={0.0: 0.5}), WarmStart(name="uniform Q and V", Q={0.0: 0.5}, V={0.0: 0.3}))
TABLE_SHARE = 1 / 3
TOLERANCE = 1e-6


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


class CopySearch:
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

    def run_all(
        self,
        trials: int,
        seed: int,
        progress: Callable[[int, float | None], None],
        keep: Callable[[optuna.Study, str], None] | None = None,
    ) -> None:
        """A third of the trials for tables, as many for every trust in the measured errors; the others for rules.

        In a common study the sampler would drop all but the form that wins on the yardstick, and which trust is right
        only generations can tell.

        Args:
            trials: in all.
            seed: of the samplers.
            progress: told (trials done, least predicted error of a feasible trial so far).
            keep: takes every study when it is finished, and what it is of.
        """
        trusts = len(self.space.trusts)
        tables = max(1, round(trials * TABLE_SHARE / trusts))

        def report() -> None:
            progress(len(self.history), self.best)

        with _quiet_optuna():
            for yardstick in range(trusts):
                found = self.run(partial(self.table, yardstick), tables, seed, self.table_warm_starts(), report)
                if keep is not None:
                    keep(found, f"{self.goal:.3f}x tables {yardstick}")
            found = self.run(self.threshold, trials - trusts * tables, seed, self.threshold_warm_starts(), report)
            if keep is not None:
                keep(found, f"{self.goal:.3f}x rules")

    def run(
        self,
        sample: Callable[[optuna.Trial], _Found],
        trials: int,
        seed: int,
        warm_starts: list[dict[str, Any]],
        report: Callable[[], None],
    ) -> optuna.Study:
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
        return study

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
