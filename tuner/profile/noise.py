"""How noisy samples are at the steps of a sampler, on the scale that all samplers share."""

from __future__ import annotations

from typing import Any

import numpy as np


def noise_levels(scheduler: Any, timesteps: np.ndarray) -> np.ndarray:
    """Shares of noise before every step and after the last one.

    A sample is alpha times clean and sigma times noise; its level is sigma / (alpha + sigma), 1 for noise alone and 0
    for what is clean. On this scale every deterministic sampler follows the straight paths of flow matching, only in
    steps of its own (Gao et al. 2024, "Diffusion meets flow matching: two sides of the same coin").

    Args:
        scheduler: one of diffusers' schedulers, set to these timesteps.
        timesteps: (steps,) in either direction.

    Returns:
        (steps + 1,) in [0, 1], descending but for samplers that look twice at a level; of a scheduler that counts
        otherwise, evenly spaced.
    """
    config, steps = scheduler.config, len(timesteps)
    alphas = getattr(scheduler, "alphas_cumprod", None)
    if alphas is None or config.get("use_flow_sigmas", False):
        return flow_levels(timesteps, config.get("num_train_timesteps", 1000))
    cumulative = alphas.double().cpu().numpy()
    if timesteps.min() < 0 or timesteps.max() > len(cumulative) - 1:
        return np.linspace(1, 0, steps + 1)
    cumulative = np.interp(timesteps, np.arange(len(cumulative)), cumulative)
    alpha, sigma = np.sqrt(cumulative), np.sqrt(1 - cumulative)
    return np.append(sigma / (alpha + sigma), 0.0)


def flow_levels(timesteps: np.ndarray, training_timesteps: int = 1000) -> np.ndarray:
    """(steps + 1,) levels of a sampler of flow matching, whose timesteps are levels already; see `noise_levels`."""
    levels = np.asarray(timesteps, dtype=float) / training_timesteps
    if levels.min() < 0 or levels.max() > 1:  # logarithms, or what else there may be
        return np.linspace(1, 0, len(levels) + 1)
    return np.append(levels if levels[0] >= levels[-1] else 1 - levels, 0.0)
