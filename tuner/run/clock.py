"""Times the denoising steps of one generation, leaving out the moments in which another one has its turn."""

from __future__ import annotations

import time

import numpy as np
import torch

from tuner.run.lockstep import Position, Turn


def now(device: torch.device) -> float:
    """Seconds on a clock, read once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class StepClock:
    """Counts seconds from its making, in steps from the denoiser's first call to the pipeline's end-of-step callback.

    Attributes:
        seconds: of everything so far, without the turns of others.
    """

    def __init__(self, device: torch.device, turn: Turn | None = None) -> None:
        """
        Args:
            device: work is timed until the device is done.
            turn: hands over to another generation; without it `hand_over` does nothing.
        """
        self.device = device
        self.seconds = 0.0
        self._turn = turn
        self._steps: list[float] = []
        self._step: float | None = None
        self._since = now(self.device)

    @property
    def step_seconds(self) -> np.ndarray:
        """(steps,) seconds of the steps that have ended."""
        return np.array(self._steps)

    def begin_steps(self) -> None:
        """The denoiser is called; only the first call counts."""
        if self._step is None:
            self.stop()
            self._step = 0.0

    def end_step(self) -> None:
        """A step has ended, and the next one begins."""
        self.stop()
        assert self._step is not None
        self._steps.append(self._step)
        self._step = 0.0

    def hand_over(self, position: Position) -> None:
        """Let another generation have its turn."""
        if self._turn is not None:
            self.stop()
            self._turn(position)
            self._since = now(self.device)

    def stop(self) -> None:
        """Count what has passed until now."""
        at = now(self.device)
        self.seconds += at - self._since
        if self._step is not None:
            self._step += at - self._since
        self._since = at
