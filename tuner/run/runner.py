"""Runs real generations, timed step by step, with or without a schedule."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

import asymrnr
from asymrnr.schedule import Schedule
from tuner.errors import TunerError, UsageError
from tuner.models import ModelEntry, denoisers


class NonFiniteError(TunerError):
    """The denoiser produced NaN or infinity."""

    exit_code = 4


class _Stop(Exception):  # noqa: N818  (control flow, not an error)
    """Ends a generation after the steps asked for."""


@dataclass(frozen=True)
class Trajectory:
    """What the denoiser saw and said along one generation.

    Attributes:
        latents: latents after every step, each of the pipeline's latent shape.
        outputs: the denoiser's output of every call, in call order.
    """

    latents: list[torch.Tensor] = field(default_factory=list)
    outputs: list[torch.Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Generation:
    """One finished generation.

    Attributes:
        video: (frames, 3, height, width) in [0, 1].
        latents: final latents.
        step_seconds: (steps,) wall time of every denoising step.
        seconds: wall time of the whole call, text encoder and decoder included.
        summary: what the runtime reduced; None without a schedule.
        trajectory: set when recording was asked for.
        forced_error: (calls,) relative L2 error of the denoiser's output at fixed inputs; only when forced.
    """

    video: torch.Tensor
    latents: torch.Tensor
    step_seconds: np.ndarray
    seconds: float
    summary: asymrnr.Summary | None = None
    trajectory: Trajectory | None = None
    forced_error: np.ndarray | None = None


class _StepClock:
    """Times denoising steps from the denoiser's first call and the pipeline's end-of-step callback."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.marks: list[float] = []

    def mark(self) -> None:
        self.marks.append(self.now())

    def now(self) -> float:
        """The time at which everything the device was asked for is done, in seconds."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def first_call(self, *_: Any) -> None:
        if not self.marks:
            self.mark()

    @property
    def step_seconds(self) -> np.ndarray:
        return np.diff(self.marks)


class Runner:
    """Generates with one pipeline on one workload.

    Attributes:
        pipe: the pipeline.
        entry: what the registry says of its model.
        denoisers: its transformers or U-Net; Wan 2.2 has two.
        denoiser: the first of them.
    """

    def __init__(self, pipe: DiffusionPipeline, entry: ModelEntry) -> None:
        self.pipe = pipe
        self.entry = entry
        self.denoisers = denoisers(pipe)
        self.denoiser = self.denoisers[0]

    @property
    def device(self) -> torch.device:
        """Where the pipeline computes; with offloading its parts wait elsewhere."""
        device: torch.device = self.pipe._execution_device
        return device

    def generate(
        self,
        prompt: str,
        seed: int,
        schedule: Schedule | None = None,
        *,
        observer: Callable[[asymrnr.AttentionCall], None] | None = None,
        record: bool = False,
        forced: Trajectory | None = None,
    ) -> Generation:
        """Generate one video.

        Args:
            prompt: what to show.
            seed: seed of the initial noise.
            schedule: reduction to run with; none means the plain pipeline.
            observer: sees every attention call of an unreduced run (profiling).
            record: keep the trajectory.
            forced: replay this trajectory's latents and measure the denoiser's error at each of its inputs.

        Raises:
            NonFiniteError: the latents became NaN or infinite.
            ScheduleError: the schedule does not fit, or reduced less than it says.
        """
        clock = _StepClock(self.device)
        trajectory = Trajectory()
        errors: list[float] = []
        final: list[torch.Tensor] = []

        def on_step_end(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            clock.mark()
            latents = tensors["latents"]
            self._require_finite(latents, step, schedule)
            final[:] = [latents]
            if record:
                trajectory.latents.append(latents.detach().clone())
            return {"latents": forced.latents[step].to(latents)} if forced is not None else {}

        def on_output(_: Any, __: Any, output: Any) -> None:
            value = output[0].detach()
            if record:
                trajectory.outputs.append(value.clone())
            if forced is not None:
                target = forced.outputs[len(errors)].to(value.device, torch.float32)
                errors.append(float((value.float() - target).norm() / target.norm()))

        with ExitStack() as stack:
            for model in self.denoisers:
                stack.callback(model.register_forward_pre_hook(clock.first_call).remove)
                if record or forced is not None:
                    stack.callback(model.register_forward_hook(on_output).remove)
            handle = None
            if schedule is not None:
                handle = stack.enter_context(asymrnr.apply(self.pipe, schedule))
            elif observer is not None:
                stack.enter_context(asymrnr.observe(self.pipe, observer))
            began = clock.now()
            video = self._call(prompt, seed, on_step_end, output_type="pt").frames[0]
            seconds = clock.now() - began
            summary = handle.summary() if handle is not None else None
        return Generation(
            video=video.float().cpu(),
            latents=final[0].float().cpu(),
            step_seconds=clock.step_seconds,
            seconds=seconds,
            summary=summary,
            trajectory=trajectory if record else None,
            forced_error=np.array(errors) if forced is not None else None,
        )

    def time_steps(self, steps: int, prompt: str, seed: int = 0) -> np.ndarray:
        """Wall time of the first `steps` unaccelerated denoising steps, in seconds; nothing is decoded."""
        clock = _StepClock(self.device)

        def on_step_end(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            clock.mark()
            self._require_finite(tensors["latents"], step, None)
            if step + 1 >= steps:
                raise _Stop
            return {}

        with ExitStack() as stack:
            stack.enter_context(suppress(_Stop))
            for model in self.denoisers:
                stack.callback(model.register_forward_pre_hook(clock.first_call).remove)
            self._call(prompt, seed, on_step_end, output_type="latent")
        return clock.step_seconds

    def _call(self, prompt: str, seed: int, on_step_end: Callable[..., dict[str, Any]], output_type: str) -> Any:
        generator = torch.Generator("cpu").manual_seed(seed)
        accepted = inspect.signature(type(self.pipe).__call__).parameters
        workload = {name: value for name, value in self.entry.workload.call_kwargs().items() if name in accepted}
        with torch.inference_mode():
            return self.pipe(
                prompt,
                generator=generator,
                output_type=output_type,
                callback_on_step_end=on_step_end,
                callback_on_step_end_tensor_inputs=["latents"],
                **workload,
            )

    def _require_finite(self, latents: torch.Tensor, step: int, schedule: Schedule | None) -> None:
        if bool(torch.isfinite(latents).all()):
            return
        if schedule is None:
            raise UsageError(
                f"{self.entry.name} itself produces NaN or infinity at denoising step {step}, without any schedule; "
                "check its weights and dtype."
            )
        raise NonFiniteError(f"With this schedule {self.entry.name} produces NaN or infinity at denoising step {step}.")
