"""Samplers of flow matching for models that predict the clean video."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SchedulerMixin,  # noqa: F401  (diffusers looks for it here, to load by its methods)
    UniPCMultistepScheduler,
)
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteSchedulerOutput

TIMESTEPS = 1000


def clean_scheduler(shift: float) -> UniPCMultistepScheduler:
    """UniPC, which takes such predictions as they are.

    Args:
        shift: of the noise levels.
    """
    return UniPCMultistepScheduler(
        num_train_timesteps=TIMESTEPS, prediction_type="sample", use_flow_sigmas=True, flow_shift=shift
    )


class CleanFlowMatchEulerScheduler(FlowMatchEulerDiscreteScheduler):
    """Euler's method, which wants velocities, for pipelines that know no other sampler (Mochi's)."""

    def step(
        self, model_output: torch.Tensor, timestep: float | torch.Tensor, sample: torch.Tensor, **options: Any
    ) -> FlowMatchEulerDiscreteSchedulerOutput | tuple[torch.Tensor, ...]:
        """One step; `model_output` is the clean sample, everything else as in the base class."""
        if self.step_index is None:
            self._init_step_index(timestep)
        sigma = self.sigmas[self.step_index]
        if self.config.invert_sigmas:  # counts what is clean
            velocity = (model_output - sample) / (1 - sigma)
        else:
            velocity = (sample - model_output) / sigma
        return super().step(velocity, timestep, sample, **options)
