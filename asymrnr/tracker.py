"""Tells denoising step, CFG branch and generation from what the denoiser itself is called with."""

from __future__ import annotations


class StepTracker:
    """Follows the calls of a denoiser.

    A step index announced by the pipeline wins. Otherwise a new timestep is a new step; timesteps are monotone within
    a generation, so a reversed direction starts a new one. A branch name seen twice at one timestep is a new step
    (second order schedulers), and so is a call after the sampler's step was seen to end. Calls without a branch name
    are told apart by their order within the step.

    Attributes:
        generation: counts generations, from 0.
        step: denoising step of the current generation, -1 before its first call.
        branch: name of the current call within the step.
        timestep: the sampler's timestep.
    """

    def __init__(self) -> None:
        self.generation = -1
        self.new_generation()

    def new_generation(self) -> None:
        """Start over; the next call is step 0."""
        self.generation += 1
        self.step = -1
        self.branch = ""
        self.timestep: float | None = None
        self._direction = 0
        self._seen: set[str] = set()
        self._ended = False

    def end_step(self) -> None:
        """The sampler has made its step: the next call belongs to another one."""
        self._ended = True

    def observe(self, timestep: float, branch: str | None = None, step_index: int | None = None) -> None:
        """Take note of one call of the denoiser.

        Args:
            timestep: what the denoiser was given.
            branch: CFG branch announced by the pipeline, if any.
            step_index: denoising step announced by the pipeline, if any.
        """
        if step_index is not None:
            if step_index < self.step or (step_index == self.step and branch in self._seen):
                self.new_generation()
            if step_index != self.step:
                self._enter(step_index)
        elif self.timestep is None:
            self._enter(0)
        elif timestep != self.timestep:
            direction = 1 if timestep > self.timestep else -1
            if self._direction and direction != self._direction:
                self.new_generation()
                self._enter(0)
            else:
                self._direction = direction
                self._enter(self.step + 1)
        elif self._ended or (branch is not None and branch in self._seen):
            self._enter(self.step + 1)
        self._ended = False
        self.timestep = timestep
        self.branch = branch if branch is not None else f"call{len(self._seen)}"
        self._seen.add(self.branch)

    def _enter(self, step: int) -> None:
        self.step = step
        self._seen = set()
