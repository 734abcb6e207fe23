"""What leaving out all blocks of a step would get wrong where what they added at an earlier step is added again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from asymrnr.adapters import find_adapter
from asymrnr.install import base_model, replace_forward
from asymrnr.residual import BlockResidual
from tuner.profile.observed import Observed

KIND, ROW = "residual", 0  # of what is observed; it is of a whole step, and stands where its first block would


class ResidualErrors:
    """Squared errors of the denoiser's output, relative to its square, for residuals of 1, 2, ... steps earlier.

    For each of them everything but the blocks is computed once more. What the blocks added waits in main memory.
    """

    def __init__(self, observed: Observed, gaps: int, step: Callable[[], int]) -> None:
        """
        Args:
            observed: takes what is found, see `residual_table`.
            gaps: largest number of steps that are left out in a row.
            step: tells the running denoising step.
        """
        self._observed, self._gaps, self._step = observed, gaps, step
        self._seen: deque[tuple[int, list[torch.Tensor | None]]] = deque(maxlen=gaps + 1)

    @contextmanager
    def watch(self, models: Sequence[nn.Module]) -> Iterator[None]:
        """Look at what denoisers give meanwhile; does nothing where their blocks do more than add to the tokens."""
        with ExitStack() as stack:
            for model in models if find_adapter(base_model(models[0])).residual else ():
                blocks = BlockResidual()
                for undo in blocks.install(model):
                    stack.callback(undo)
                stack.callback(replace_forward(model, partial(self._standing_in, blocks)))
            yield

    def _standing_in(self, blocks: BlockResidual, inner: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            return self._compared(blocks, lambda: inner(*args, **kwargs))

        return forward

    @torch.no_grad()
    def _compared(self, blocks: BlockResidual, compute: Callable[[], Any]) -> Any:
        given, step = compute(), self._step()
        output, found, blocks.found = given[0].float(), blocks.found, None
        if not self._seen or self._seen[-1][0] != step:
            self._seen.append((step, []))
        order = len(self._seen[-1][1])
        self._seen[-1][1].append(None if found is None else found.cpu())
        if found is None:
            return given
        energy = float(output.square().sum())
        for earlier, calls in self._seen:
            added = calls[order] if earlier < step and order < len(calls) else None
            if added is None or added.shape != found.shape:
                continue
            wrong = blocks.again(added.to(found.device), compute)[0].float() - output
            self._observed.means[KIND, step - earlier].add((ROW, step), float(wrong.square().sum()), energy)
        return given


def residual_table(observed: Observed, gaps: int) -> np.ndarray | None:
    """(steps, gaps) of what was observed, NaN where there is no such step; None where nothing was."""
    found = observed.tables(KIND)
    if not found:
        return None
    unknown = np.full(len(observed.timesteps), np.nan)
    return np.stack([found[gap,][ROW] if (gap,) in found else unknown for gap in range(1, gaps + 1)], axis=1)
