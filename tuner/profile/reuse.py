"""What leaving out whole steps would get wrong: the denoiser's output, extrapolated from earlier ones."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch

from tuner.ceilings import OUTPUT_NUMBERS


class ExtrapolatedOutputs:
    """Squared errors of outputs that are extrapolated from two earlier steps, relative to the square of the output.

    A step that is left out gets what follows from the last step that was computed, and from the one computed before
    that, see `asymrnr.extrapolation`. Nothing older than what the table needs is kept, and of large outputs a sample.
    """

    def __init__(self, steps: int, gaps: int) -> None:
        """
        Args:
            steps: denoising steps of the generation.
            gaps: largest number of steps that are left out in a row.
        """
        self._shape = (steps, gaps, gaps + 1)
        self._error, self._energy = np.zeros(self._shape), np.zeros(self._shape)
        self._seen: deque[tuple[int, float, list[tuple[torch.Size, torch.Tensor]]]] = deque(maxlen=2 * gaps + 2)

    @property
    def seen(self) -> bool:
        """Whether there is anything in the table."""
        return bool((self._energy > 0).any())

    @torch.no_grad()
    def add(self, step: int, timestep: float, output: torch.Tensor) -> None:
        """Take in the output of one call; the calls of a step are compared with those of the same order.

        Args:
            step: denoising step.
            timestep: of the sampler.
            output: what the denoiser gave.
        """
        if not self._seen or self._seen[-1][0] != step:
            self._seen.append((step, timestep, []))
        calls = self._seen[-1][2]
        shape, some = output.shape, self._some(output.detach().flatten())
        calls.append((shape, some))
        now, order = some.float(), len(calls) - 1
        energy = float(now.square().sum())
        there = {
            earlier: (time, others[order][1].float())
            for earlier, time, others in self._seen
            if earlier < step and len(others) > order and others[order][0] == shape
        }
        for gap in range(1, self._shape[1] + 1):
            if step - gap not in there:
                continue
            time, last = there[step - gap]
            for before in range(self._shape[2]):
                if step == gap and before == 0:  # nothing lies before the first step
                    wrong = last - now
                elif step - gap - before - 1 in there:
                    long_ago, first = there[step - gap - before - 1]
                    wrong = torch.lerp(first, last, 1 + (timestep - time) / (time - long_ago)) - now
                else:
                    continue
                self._error[step, gap - 1, before] += float(wrong.square().sum())
                self._energy[step, gap - 1, before] += energy

    @staticmethod
    def _some(output: torch.Tensor) -> torch.Tensor:
        """A copy of an output's numbers, or of as many as are kept, drawn by lot and alike for equal sizes."""
        if output.numel() <= OUTPUT_NUMBERS:
            return output.clone()
        drawn = torch.randint(output.numel(), (OUTPUT_NUMBERS,), generator=torch.Generator().manual_seed(0))
        return output[drawn.to(output.device)]

    def table(self) -> np.ndarray:
        """(steps, gaps, before): the last computed step lies 1, 2, ... steps back, and the one before it 1, 2, ...
        steps before that; NaN where there is no such step. From the first step on there is nothing but its output."""
        unknown = np.full(self._shape, np.nan)
        return np.divide(self._error, self._energy, out=unknown, where=self._energy > 0)
