"""The best schedule for every one of several targets, from the Lagrangian solution alone."""

from __future__ import annotations

from tuner.latency.model import LatencyModel
from tuner.profile.profile import Profile
from tuner.search.feasibility import profiled
from tuner.search.result import Candidate, Recipe
from tuner.search.space import SearchSpace, error_models
from tuner.search.table import TableSolver, table_kind


def solve_targets(
    profile: Profile, latency_model: LatencyModel, space: SearchSpace, targets: list[float]
) -> list[Candidate | None]:
    """The best table schedule for every target, from one profile and without any trial; None where out of reach.

    Args:
        profile, latency_model, space: see `search`.
        targets: speed-ups.
    """
    solver = TableSolver(error_models(profile, space)[0], latency_model)
    pairs = profiled(profile, space)
    results: list[Candidate | None] = []
    for target in targets:
        solved = [(*solver.assign(target, *pair), *pair) for pair in pairs]
        met = [(assignment, stride, step) for assignment, reached, stride, step in solved if reached]
        if not met:
            results.append(None)
            continue
        assignment, stride, step = min(met, key=lambda entry: entry[0].loss)
        schedule, kind = solver.schedule(assignment, stride, step), table_kind(stride, space.trusts[0])
        results.append(
            Candidate(
                schedule=schedule,
                predicted_seconds=latency_model.predict(schedule),
                predicted_speedup=latency_model.speedup(schedule),
                predicted_error=assignment.loss,
                bound=solver.bound(target, pairs),
                excess=1.0,
                kind=kind,
                label=f"{kind}, cache {step}, p=2",
                recipe=Recipe("table", stride, step),
            )
        )
    return results
