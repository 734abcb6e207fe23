"""How the denoiser's output changes over the steps: what leaving out all of its blocks would get wrong."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch


class DenoiserChanges:
    """Squared changes of the denoiser's output since earlier steps, relative to its square.

    A cache that leaves all blocks out adds again what they added at the last step that computed them. So what it gets
    wrong is, but for what surrounds the blocks, how the output has changed since. Nothing older than the largest gap is
    kept.
    """

    def __init__(self, steps: int, gaps: int) -> None:
        """
        Args:
            steps: denoising steps of the generation.
            gaps: largest number of steps to look back.
        """
        self._shape = (steps, gaps)
        self._change, self._energy = np.zeros((steps, gaps)), np.zeros((steps, gaps))
        self._seen: deque[tuple[int, list[torch.Tensor]]] = deque(maxlen=gaps + 1)

    @property
    def seen(self) -> bool:
        """Whether there is anything in the table."""
        return bool((self._energy > 0).any())

    @torch.no_grad()
    def add(self, step: int, output: torch.Tensor) -> None:
        """Take in the output of one call; the calls of a step are compared with those of the same order."""
        if not self._seen or self._seen[-1][0] != step:
            self._seen.append((step, []))
        calls = self._seen[-1][1]
        calls.append(output.detach().clone())
        now, order = output.detach().float(), len(calls) - 1
        for earlier, others in self._seen:
            gap = step - earlier
            if not 1 <= gap <= self._shape[1] or len(others) <= order or others[order].shape != now.shape:
                continue
            self._change[step, gap - 1] += float((now - others[order].float()).square().sum())
            self._energy[step, gap - 1] += float(now.square().sum())

    def table(self) -> np.ndarray:
        """(steps, gaps) for 1, 2, ... steps back; NaN where there is no such step."""
        unknown = np.full(self._shape, np.nan)
        return np.divide(self._change, self._energy, out=unknown, where=self._energy > 0)
