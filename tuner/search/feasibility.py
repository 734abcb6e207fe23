"""The highest speed-up a search space can reach, before anything is searched or even generated."""

from __future__ import annotations

import numpy as np

from asymrnr.actions import Action
from tuner.latency.model import LatencyModel
from tuner.profile.profile import Profile
from tuner.search.lagrangian import Problem, fastest
from tuner.search.space import SearchSpace


def _attainable(
    model: LatencyModel, stride: str, cache_step: int, rates: np.ndarray, error_q: np.ndarray, error_v: np.ndarray
) -> float:
    """The errors, (blocks, steps, R), only matter where they are infinite, which means out of reach."""
    seconds = model.site_seconds(rates[None, :, None], rates)
    problem = Problem(error_q, error_v, seconds, model.matching_seconds(stride), cache_step)
    return model.baseline_seconds / model.seconds(fastest(problem).seconds)


def best_attainable_by_stride(model: LatencyModel, space: SearchSpace) -> dict[str, float]:
    """Highest predicted speed-up per stride, each with its best cache step and the highest rates where they pay.

    Args:
        model: on surfaces that have all strides of the space.
        space: strides, cache steps and rates.

    Raises:
        UsageError: a stride was not measured.
    """
    result, rates = {}, np.array(space.rates)
    for stride in space.strides:
        within = rates <= model.sites.largest_rates(stride)[:, None, None] + 1e-9
        errors = np.broadcast_to(np.where(within, 0.0, np.inf), (model.blocks, model.steps, len(rates)))
        result[stride] = max(_attainable(model, stride, step, rates, errors, errors) for step in space.cache_steps)
    return result


def best_attainable_with_memory(model: LatencyModel, space: SearchSpace) -> float:
    """Highest predicted speed-up of broadcasting everywhere, with as few refreshes as the space's gaps allow.

    Or of leaving out all blocks, where the space has that. Without regard to a limit on the memory kept.
    """
    beside = model.alongside
    steps = model.steps if beside is None else int(beside.computed.sum())
    refreshes = -(-steps // (1 + min(space.memory_gaps, model.steps - 1)))
    full = float(model.action_seconds(Action.REFRESH, 0.0, 0.0, space.strides[0]).sum())
    least = model.outside_seconds * steps / model.steps + refreshes * full
    if beside is not None:
        return model.baseline_seconds / (least + model.baseline_seconds * beside.share - model.step_seconds * steps)
    if space.reuse and model.reused_share is not None:
        without = (refreshes + (model.steps - refreshes) * model.reused_share) * model.step_seconds
        least = min(least, without)
    return model.baseline_seconds / least


def best_attainable(profile: Profile, model: LatencyModel, space: SearchSpace) -> float:
    """Highest predicted speed-up among the strides, cache steps and rates that were profiled.

    Args:
        profile: says which rates are within reach at every site.
        model: predicts seconds.
        space: strides and cache steps.

    Raises:
        UsageError: nothing of the space was profiled, or a stride was not measured.
    """
    found = [1.0]
    for stride, cache_step in profiled(profile, space):
        errors = profile.q_error[stride, cache_step], profile.v_error[stride, cache_step]
        found.append(_attainable(model, stride, cache_step, profile.rates, *errors))
    return max(found)


def profiled(profile: Profile, space: SearchSpace) -> list[tuple[str, int]]:
    """The (stride, cache step) pairs of the space that the profile has, in the space's order."""
    pairs = [(stride, step) for stride in space.strides for step in space.cache_steps]
    return [pair for pair in pairs if pair in profile.q_error]
