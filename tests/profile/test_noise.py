"""Noise levels against what diffusers' samplers do with a prediction that never changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from tuner.embedded.sampler import CleanFlowMatchEulerScheduler, clean_scheduler
from tuner.profile.noise import flow_levels, noise_levels

SHAPE, STEPS = (1, 4, 2, 3), 10
TRAILING = {"timestep_spacing": "trailing"}


def mixture(sample: torch.Tensor, clean: torch.Tensor, noise: torch.Tensor) -> tuple[float, float]:
    """How much of each is in it."""
    both = torch.stack([clean.flatten(), noise.flatten()], dim=1)
    found = torch.linalg.lstsq(both, sample.flatten()[:, None]).solution.flatten()
    torch.testing.assert_close(both @ found, sample.flatten(), atol=1e-4, rtol=1e-3)
    return float(found[0]), float(found[1])


def prediction(scheduler: Any, clean: torch.Tensor, noise: torch.Tensor, level: float) -> torch.Tensor:
    """What a model that knows both would give, by what the scheduler wants."""
    wanted = scheduler.config.get("prediction_type", "velocity")
    if isinstance(scheduler, CleanFlowMatchEulerScheduler) or wanted == "sample":
        return clean
    if wanted == "epsilon":
        return noise
    if wanted == "v_prediction":
        length = np.hypot(level, 1 - level)
        return (noise * (1 - level) - clean * level) / length
    return noise - clean


@pytest.mark.parametrize(
    "scheduler",
    [
        DDIMScheduler(prediction_type="sample", clip_sample=False, **TRAILING),
        CogVideoXDDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True, **TRAILING),
        DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", prediction_type="epsilon"),
        EulerDiscreteScheduler(prediction_type="epsilon", **TRAILING),
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        CleanFlowMatchEulerScheduler(shift=3.0),
        UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0),
        clean_scheduler(3.0),
    ],
    ids=lambda scheduler: type(scheduler).__name__,
)
def test_levels_are_the_noise_that_samplers_leave(scheduler: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    clean, noise = torch.randn((2, *SHAPE), generator=generator)
    scheduler.set_timesteps(STEPS)
    timesteps = scheduler.timesteps
    levels = noise_levels(scheduler, timesteps.double().numpy())
    assert levels.shape == (STEPS + 1,)
    first = levels[0]
    sample = clean * (1 - first) + noise * first
    if not isinstance(scheduler, (FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler)):
        sample = sample / np.hypot(first, 1 - first)  # their samples keep their variance
    if isinstance(scheduler, EulerDiscreteScheduler):
        sample = noise * scheduler.sigmas[0] + clean  # and this one's grow
    found = []
    for index, timestep in enumerate(timesteps):
        share_clean, share_noise = mixture(sample, clean, noise)
        found.append(share_noise / (share_clean + share_noise))
        if isinstance(scheduler, EulerDiscreteScheduler):
            scheduler.scale_model_input(sample, timestep)  # it insists
        output = prediction(scheduler, clean, noise, levels[index])
        sample = scheduler.step(output, timestep, sample, return_dict=False)[0]
    share_clean, share_noise = mixture(sample, clean, noise)
    found.append(share_noise / (share_clean + share_noise))
    np.testing.assert_allclose(levels, found, atol=1e-3)


def test_mochi_counts_what_is_clean() -> None:
    np.testing.assert_allclose(flow_levels(np.array([0.0, 200.0, 600.0])), [1, 0.8, 0.4, 0])
    np.testing.assert_allclose(flow_levels(np.array([1000.0, 800.0, 400.0])), [1, 0.8, 0.4, 0])


def test_timesteps_that_are_no_levels_are_taken_to_be_even() -> None:
    np.testing.assert_allclose(flow_levels(np.array([1.1, 0.4, -0.3, -1.5])), [1, 0.75, 0.5, 0.25, 0])
    beyond = np.array([1200.0, 600.0])
    np.testing.assert_allclose(noise_levels(DDIMScheduler(), beyond), [1, 0.5, 0])
