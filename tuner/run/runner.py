"""Runs real generations, timed step by step, with or without a schedule."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

import asymrnr
from asymrnr.adapters import find_adapter
from asymrnr.artifact import Artifact
from asymrnr.install import base_model, self_attentions
from asymrnr.schedule import Schedule
from tuner.errors import NonFiniteError, UsageError
from tuner.models import ModelEntry, denoisers
from tuner.models.images import open_image
from tuner.models.videos import open_video
from tuner.run.clock import StepClock
from tuner.run.encoding import encode_once
from tuner.run.guidance import set_guidance
from tuner.run.lockstep import Turn
from tuner.run.step_end import told_of_steps


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
        video: (frames, 3, height, width) in [0, 1]; without frames where it was not to be decoded.
        latents: final latents.
        step_seconds: (steps,) wall time of every denoising step.
        seconds: wall time of the whole call, text encoder and decoder included, encoded now or before.
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
        set_guidance(pipe, entry.workload.guidance_scale)
        self._encoding = encode_once(pipe)

    @property
    def device(self) -> torch.device:
        """Where the pipeline computes; with offloading its parts wait elsewhere."""
        device: torch.device = self.pipe._execution_device
        return device

    def generate(
        self,
        prompt: str,
        seed: int,
        schedule: Schedule | Artifact | None = None,
        *,
        on_step: Callable[[int], None] | None = None,
        observer: Callable[[asymrnr.AttentionCall], None] | None = None,
        on_output: Callable[[torch.Tensor], None] | None = None,
        record: bool = False,
        forced: Trajectory | None = None,
        turn: Turn | None = None,
        within_steps: bool = False,
        decode: bool = True,
    ) -> Generation:
        """Generate one video.

        Args:
            prompt: what to show.
            seed: seed of the initial noise.
            schedule: reduction to run with, or the artifact that holds it; none means the plain pipeline.
            on_step: told after every step how many have ended.
            observer: sees every attention call of an unreduced run (profiling).
            on_output: is shown what every call of a denoiser gives.
            record: keep the trajectory.
            forced: replay this trajectory's latents and measure the denoiser's error at each of its inputs.
            turn: hands over to another generation at the end of every step.
            within_steps: hand over before every self-attention, too.
            decode: give the video; without it there are no frames.

        Raises:
            UsageError: the pipeline refuses the workload.
            NonFiniteError: the latents became NaN or infinite.
            ScheduleError: the schedule does not fit, or reduced less than it says.
        """
        trajectory = Trajectory()
        errors: list[float] = []
        final: list[torch.Tensor] = []

        def after_step(step: int, latents: torch.Tensor) -> dict[str, Any]:
            final[:] = [latents]
            if on_step is not None:
                on_step(step + 1)
            if record:
                trajectory.latents.append(latents.detach().clone())
            return {"latents": forced.latents[step].to(latents)} if forced is not None else {}

        def after_call(_: Any, __: Any, output: Any) -> None:
            value = output[0].detach()
            if on_output is not None:
                on_output(value)
            if record:
                trajectory.outputs.append(value.clone())
            if forced is not None:
                target = forced.outputs[len(errors)].to(value.device, torch.float32)
                errors.append(float((value.float() - target).norm() / target.norm()))

        with ExitStack() as stack:
            if record or forced is not None or on_output is not None:
                for model in self.denoisers:
                    stack.callback(model.register_forward_hook(after_call).remove)
            handle = None
            if schedule is not None:
                handle = stack.enter_context(asymrnr.apply(self.pipe, schedule))
            elif observer is not None:
                stack.enter_context(asymrnr.observe(self.pipe, observer))
            clock = StepClock(self.device, turn)
            kind = "pt" if decode else "latent"
            called = self._timed_call(clock, prompt, seed, schedule, after_step, kind, within_steps)
            clock.stop()
            summary = handle.summary() if handle is not None else None
        return Generation(
            video=called.frames[0].float().cpu() if decode else torch.empty(0, 3, 0, 0),
            latents=final[0].float().cpu(),
            step_seconds=clock.step_seconds,
            seconds=clock.seconds,
            summary=summary,
            trajectory=trajectory if record else None,
            forced_error=np.array(errors) if forced is not None else None,
        )

    @property
    def _spared(self) -> float:
        """Seconds that encoding prompts once has spared."""
        return 0.0 if self._encoding is None else self._encoding.spared

    def time_steps(
        self,
        steps: int,
        prompt: str,
        seed: int = 0,
        schedule: Schedule | None = None,
        turn: Turn | None = None,
        within_steps: bool = False,
    ) -> np.ndarray:
        """Wall time of the first `steps` denoising steps, in seconds; nothing is decoded.

        Args:
            steps: how many.
            prompt, seed, schedule, turn, within_steps: as for `generate`.
        """

        def after_step(step: int, _: torch.Tensor) -> dict[str, Any]:
            if step + 1 >= steps:
                raise _Stop
            return {}

        clock = StepClock(self.device, turn)
        with ExitStack() as stack:
            stack.enter_context(suppress(_Stop))
            if schedule is not None:
                stack.callback(asymrnr.apply(self.pipe, schedule).remove)
                stack.enter_context(warnings.catch_warnings())  # not on both sides of a lock-step, which overlap
                warnings.simplefilter("ignore", asymrnr.OtherWorkload)  # the schedule is of the steps that are timed
            self._timed_call(clock, prompt, seed, schedule, after_step, "latent", within_steps)
        return clock.step_seconds

    def _timed_call(
        self,
        clock: StepClock,
        prompt: str,
        seed: int,
        schedule: Schedule | Artifact | None,
        after_step: Callable[[int, torch.Tensor], dict[str, Any]],
        output_type: str,
        within_steps: bool,
    ) -> Any:
        """Call the pipeline with the clock told of every step, and turns handed over."""
        calls = [0, 0]  # steps ended, calls of denoisers in this step
        spared = self._spared
        order: dict[torch.nn.Module, int] = {}  # in which the sites run; a U-Net registers them in another one

        def on_forward(*_: Any) -> None:
            clock.begin_steps()
            if calls == [0, 0]:  # prompts are encoded by now, and nobody else had a turn
                clock.seconds += self._spared - spared
            calls[1] += 1

        def before_site(site: torch.nn.Module, *_: Any) -> None:
            clock.hand_over((*calls, order.setdefault(site, len(order))))

        def on_step_end(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            self._require_finite(tensors["latents"], step, schedule)
            clock.end_step()
            changed = after_step(step, tensors["latents"])
            calls[:] = [step + 1, 0]
            clock.hand_over((*calls, 0))
            return changed

        with ExitStack() as stack:
            for model in self.denoisers:
                stack.callback(model.register_forward_pre_hook(on_forward).remove)
                if within_steps:
                    for site in self_attentions(model, find_adapter(base_model(model))):
                        stack.callback(site.register_forward_pre_hook(before_site).remove)
            try:
                return self._call(prompt, seed, on_step_end, output_type)
            except ValueError as error:
                if calls != [0, 0]:
                    raise
                reason = str(error).strip().rstrip(".")  # pipelines look at what they are asked for before anything
                raise UsageError(f"{self.entry.name} cannot generate {self.entry.workload}: {reason}.") from error

    def _call(self, prompt: str, seed: int, on_step_end: Callable[..., dict[str, Any]], output_type: str) -> Any:
        generator = torch.Generator("cpu").manual_seed(seed)
        accepted = inspect.signature(type(self.pipe).__call__).parameters
        workload = {name: value for name, value in self.entry.workload.call_kwargs().items() if name in accepted}
        if self.entry.starts_from == "picture":
            workload["image"] = open_image(self._file_of(prompt))
        elif self.entry.starts_from == "video":
            workload["video"] = open_video(self._file_of(prompt), self.entry.workload.frames)
        with ExitStack() as stack:
            if "callback_on_step_end" in accepted:
                workload |= {
                    "callback_on_step_end": on_step_end,
                    "callback_on_step_end_tensor_inputs": ["latents"],
                }
            else:
                stack.enter_context(told_of_steps(self.pipe, on_step_end))
            stack.enter_context(torch.inference_mode())
            return self.pipe(prompt=prompt, generator=generator, output_type=output_type, **workload)

    def _file_of(self, prompt: str) -> Path:
        if prompt not in self.entry.files:
            kind = self.entry.starts_from
            raise UsageError(f"{self.entry.name} starts from {kind}s, and there is none for '{prompt:.60}'.")
        return self.entry.files[prompt]

    def _require_finite(self, latents: torch.Tensor, step: int, schedule: Schedule | Artifact | None) -> None:
        if bool(torch.isfinite(latents).all()):
            return
        if schedule is None:
            raise UsageError(
                f"{self.entry.name} itself produces NaN or infinity at denoising step {step}, without any schedule; "
                "check its weights and dtype."
            )
        raise NonFiniteError(f"With this schedule {self.entry.name} produces NaN or infinity at denoising step {step}.")
