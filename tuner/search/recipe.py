"""Makes the schedule of a recipe for a speed: the Lagrangian table, or the threshold rule scaled to it."""

from __future__ import annotations

from collections.abc import Sequence

from asymrnr.schedule import Schedule
from tuner.latency.model import LatencyModel
from tuner.profile.profile import Profile
from tuner.search.result import Recipe
from tuner.search.table import TableSolver, table_kind
from tuner.search.threshold import scale_to_target
from tuner.strides import parse_stride

RULE = "threshold rule"


def schedule_of(
    recipe: Recipe, solvers: Sequence[TableSolver], profile: Profile, model: LatencyModel, speedup: float
) -> Schedule:
    """The recipe's schedule for a predicted speed-up, or its fastest where that is out of reach.

    Args:
        recipe: what to make.
        solvers: one for every trust of the search space.
        profile, model: what was measured.
        speedup: denoising speed-up wanted.
    """
    if recipe.form == "table":
        solver = solvers[recipe.yardstick]
        steps = (recipe.first, recipe.last)
        assignment, _ = solver.assign(speedup, recipe.stride, recipe.cache_step, recipe.exponent, *steps)
        return solver.schedule(assignment, recipe.stride, recipe.cache_step)
    return scale_to_target(
        recipe.rules,
        profile.similarity,
        model,
        speedup,
        solvers[0].errors.largest_rate(recipe.stride),
        stride=parse_stride(recipe.stride),
        cache_step=recipe.cache_step,
        timesteps=tuple(profile.timesteps.tolist()),
        seed=profile.schedule_seed,
    )


def described(recipe: Recipe, solvers: Sequence[TableSolver]) -> tuple[str, str]:
    """What sets it apart from others in more than detail, and how it came about, each in a few words."""
    if recipe.form == "threshold":
        return RULE, f"{RULE}, stride {recipe.stride}, cache {recipe.cache_step}"
    kind = table_kind(recipe.stride, solvers[recipe.yardstick].errors.trust)
    label = f"{kind}, cache {recipe.cache_step}, p={recipe.exponent:g}"
    if recipe.first or recipe.last:
        label += f", {recipe.first} first and {recipe.last} last steps left alone"
    return kind, label
