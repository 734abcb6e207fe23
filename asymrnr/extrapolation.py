"""Steps that leave out the blocks: what the denoiser would give follows from what it gave, or did, at earlier steps.

Either its output is extrapolated, and nothing is computed,

    O'(t) = O(t1) + (O(t1) - O(t2)) (t - t1) / (t1 - t2)

with t1 and t2 the last two timesteps at which it was computed, as the sampler counts them; O(t1) where there is but
one. It is a Taylor series cut off after its first term, as in TaylorSeer (Liu et al., ICCV 2025), of the denoiser's
output alone. Or what all blocks added at t1 is added again, see `asymrnr.residual`. A schedule says at which steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from asymrnr.engine import Engine
from asymrnr.install import Undo, refuse_cached, replace_forward
from asymrnr.residual import BlockResidual
from asymrnr.schedule import Schedule

KEPT = 2  # steps


class Extrapolation:
    """What is kept of the last steps that were computed, for every denoiser and CFG branch: outputs, and residuals."""

    def __init__(self, engine: Engine, schedule: Schedule) -> None:
        """
        Args:
            engine: knows the running step.
            schedule: says which steps are left out.
        """
        self._engine = engine
        self._schedule = schedule
        self._left_out = schedule.reused_steps()
        self._again = schedule.residual_steps()
        self._seen: dict[tuple[int, str], deque[tuple[float, Any]]] = {}
        self._blocks: dict[int, BlockResidual] = {}
        self._added: dict[tuple[int, str], torch.Tensor] = {}

    def forget(self) -> None:
        """Let go of everything."""
        self._seen.clear()
        self._added.clear()

    def stand_in(self, model: nn.Module, index: int) -> list[Undo]:
        """Stand in for a denoiser's forward pass, or its blocks, at the steps that are left out.

        Args:
            model: the denoiser, not compiled.
            index: which of the pipeline's denoisers it is.

        Returns:
            What undoes it.

        Raises:
            InterceptionError: what its blocks do cannot be left out alone, as the schedule wants.
        """
        undo: list[Undo] = []
        if self._again.any():
            self._blocks[index] = BlockResidual()
            undo += self._blocks[index].install(model)
        return [
            *undo,
            replace_forward(
                model, lambda inner: lambda *args, **kwargs: self._forward(index, lambda: inner(*args, **kwargs))
            ),
        ]

    def _forward(self, index: int, compute: Callable[[], Any]) -> Any:
        tracker = self._engine.tracker
        assert tracker.timestep is not None
        now = tracker.timestep
        place, column = (index, tracker.branch), self._schedule.column(tracker.step, now)
        seen = self._seen.setdefault(place, deque(maxlen=KEPT))
        if seen and self._left_out[column]:
            self._engine.left_out = True
            if self._again[column] and place in self._added:
                return self._blocks[index].again(self._added[place], compute)
            return _extrapolated(list(seen), now)
        output = compute()
        blocks = self._blocks.get(index)
        if blocks is not None and blocks.found is not None:
            self._added[place], blocks.found = blocks.found, None
        if seen and seen[-1][0] == now:  # the same step once more
            seen.pop()
        seen.append((now, _mapped(lambda tensor: tensor.detach().clone(), output)))  # samplers may work in place
        return output


def install_extrapolation(models: list[nn.Module], schedule: Schedule, engine: Engine) -> list[Undo]:
    """Leave out the steps that a schedule's partner is told; every generation begins with nothing to go on from.

    Args:
        models: the pipeline's denoisers.
        schedule: with its partner.
        engine: of the schedule.

    Returns:
        What undoes it, in order of installation.

    Raises:
        InterceptionError: a cache is enabled already, or the blocks cannot be left out alone.
    """
    for model in models:
        refuse_cached(model)
    extrapolation = Extrapolation(engine, schedule)
    engine.caches.append(extrapolation.forget)
    undo: list[Undo] = [extrapolation.forget]
    for index, model in enumerate(models):  # all of a kind: the first one refuses, if any
        undo += extrapolation.stand_in(model, index)
    return undo


def _extrapolated(seen: list[tuple[float, Any]], now: float) -> Any:
    last, output = seen[-1]
    if len(seen) == 1:
        return _mapped(torch.clone, output)
    before, earlier = seen[0]
    far = (now - last) / (last - before)
    return _mapped(lambda a, b: torch.lerp(b.float(), a.float(), 1 + far).to(a.dtype), output, earlier)


def _mapped(function: Callable[..., torch.Tensor], output: Any, *others: Any) -> Any:
    """The same kind of output, with a function of its tensors."""
    if isinstance(output, torch.Tensor):
        return function(output, *others)
    if isinstance(output, dict):  # diffusers' outputs
        return type(output)(**{name: _mapped(function, output[name], *(o[name] for o in others)) for name in output})
    if isinstance(output, tuple):
        return tuple(_mapped(function, *parts) for parts in zip(output, *others, strict=True))
    return output
