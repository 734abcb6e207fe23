"""A device on which attention takes most of a step, as it does at full token counts, and nothing ever disturbs a step.

Tiny models on a CPU spend their time on calling operations, so that nothing could ever be gained there, and on a busy
machine nothing be certified. Here the clock counts what is computed instead: the work is real, its duration is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tuner.latency import micro, modules, surface
from tuner.run import clock

OPERATION = 1e-6  # seconds that any operation takes
ATTENTION = 1e-9  # seconds that attention takes for every product of two numbers


class SimulatedDevice(TorchDispatchMode):
    """Counts the seconds of everything that is computed while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def now(self, device: torch.device) -> float:
        """What stands in for `tuner.run.clock.now`."""
        return self.seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seconds += OPERATION
        if "scaled_dot_product" in str(func):
            query, key = args[:2]  # (batch, heads, tokens, head dim)
            self.seconds += ATTENTION * 2 * query.numel() * key.shape[2]
        return func(*args, **(kwargs or {}))


@contextmanager
def simulated_device() -> Iterator[SimulatedDevice]:
    """Everything that is timed in the block is timed on one."""
    with pytest.MonkeyPatch.context() as patch, SimulatedDevice() as device:
        for module in (clock, modules, surface):
            patch.setattr(module, "now", device.now)
        patch.setattr(micro, "SURFACE_SECONDS", 0.0)
        yield device
