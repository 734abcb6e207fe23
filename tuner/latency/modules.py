"""Times steps and attention modules whole, and attention calls beside them, so that the machine's pace cancels out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from asymrnr.observation import AttentionCall
from tuner.latency.surface import attention_operation
from tuner.run.clock import now


class ModuleClock:
    """What attention calls take of a step, and what attention modules take around them, as a multiple of the calls.

    An attention call cannot be timed where it is made, so that it is made once more right after, and this is timed. A
    module took two such calls, and the rest; and so did a step.
    """

    def __init__(self, device: torch.device) -> None:
        """
        Args:
            device: modules are timed until it is done.
        """
        self._device = device
        self._began, self._attention = 0.0, 0.0
        self._found: dict[int, list[float]] = {}
        self._of_steps: dict[int, float] = {}

    def watch(self, block: int, module: nn.Module) -> Callable[[], None]:
        """Time every call of a block's attention module in which `repeat` was called.

        Returns:
            What ends it.
        """

        def before(*_: Any) -> None:
            self._began, self._attention = now(self._device), 0.0

        def after(*_: Any) -> None:
            if self._attention > 0:
                rest = now(self._device) - self._began - 2 * self._attention
                self._found.setdefault(block, []).append(rest / self._attention)

        hooks = module.register_forward_pre_hook(before), module.register_forward_hook(after)

        def end() -> None:
            for hook in hooks:
                hook.remove()

        return end

    def repeat(self, call: AttentionCall) -> None:
        """Time one of the attention calls of the running module, by making it again."""
        attend = attention_operation(call.backend)
        began = now(self._device)
        attend(call.query, call.key, call.value, call.mask)
        took = now(self._device) - began
        self._attention += took
        self._of_steps[call.step] = self._of_steps.get(call.step, 0.0) + took

    def attention_share(self, step_seconds: np.ndarray) -> float | None:
        """What all attention calls take of a step, the median over the steps in which they were made again.

        Args:
            step_seconds: (steps,) what every step took, the calls that were made again included.

        Returns:
            Between 0 and 1, or None where no step was timed.
        """
        steps = [step for step in self._of_steps if step < len(step_seconds)]
        again = np.array([self._of_steps[step] for step in steps])
        shares = again / np.maximum(step_seconds[steps] - again, again)
        return float(np.median(shares)) if steps else None

    def ratios(self, kinds: Sequence[Hashable]) -> tuple[float, ...]:
        """The rest of every block's module in one call, from 0, relative to its attention.

        Args:
            kinds: of the blocks. Modules of one kind do the same; the median over all their calls holds for each.

        Returns:
            (blocks,), or nothing where a kind was never timed.
        """
        found: dict[Hashable, list[float]] = {kind: [] for kind in kinds}
        for block, values in self._found.items():
            found[kinds[block]] += values
        if not all(found.values()):
            return ()
        typical = {kind: max(0.0, float(np.median(values))) for kind, values in found.items()}
        return tuple(typical[kind] for kind in kinds)
