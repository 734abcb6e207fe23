"""Windows that leave out all blocks: what the profile says of two ways to go on without them."""

from __future__ import annotations

import numpy as np

from tuner.profile.profile import Profile
from tuner.search.losses import window_losses
from tuner.search.windows import Plan, left_out_before

RESIDUAL = 1  # of the ways


def reuse_losses(profile: Profile, weights: np.ndarray, gaps: int) -> np.ndarray | None:
    """(ways, steps, before, gaps) losses of windows: outputs extrapolated, and residuals added again where known.

    Args:
        profile: says what gets wrong.
        weights: (steps,) of squared errors of the denoiser's output, relative to its square.
        gaps: largest number of steps that are left out in a row.

    Returns:
        See `tuner.search.windows.WindowProblem.reuse_loss`; None where the profile does not say.
    """
    extrapolated, residual = profile.extrapolation_error, profile.residual_error
    if extrapolated is None:
        return None
    ways = [np.moveaxis(extrapolated[:, :gaps, : gaps + 1], 2, 0)]  # (before, steps, gaps)
    if residual is not None:
        ways.append(np.broadcast_to(residual[:, :gaps], ways[0].shape))
    weighted = (weights[:, None] * np.where(np.isnan(error), np.inf, error) for error in ways)
    return np.stack([window_losses(each).swapaxes(0, 1) for each in weighted])


def residual_steps(losses: np.ndarray, plan: Plan) -> np.ndarray:
    """(steps,) bool, those steps of a plan without their blocks at which less gets wrong with residuals added again.

    Args:
        losses: see `reuse_losses`.
        plan: of windows.
    """
    found, before = np.zeros(len(plan.length), dtype=bool), left_out_before(plan.length, plan.reused)
    for step in np.flatnonzero(plan.reused):
        gap = plan.length[step]
        found[step + 1 : step + gap + 1] = losses[:, step, before[step], gap - 1].argmin() == RESIDUAL
    return found
