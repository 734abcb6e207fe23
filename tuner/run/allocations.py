"""What a piece of work allocates, counted by PyTorch's own profiler on a CPU and by its allocator on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

MEMORY = "[memory]"  # name of the profiler's events of that kind


@dataclass
class Allocated:
    """Bytes beyond what was allocated before; known once the work is done.

    Attributes:
        peak: most at any time.
        kept: still there at the end.
    """

    peak: int = 0
    kept: int = 0


def peak_from_now(device: torch.device) -> None:
    """Let `peak_bytes` begin anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_bytes(device: torch.device) -> int | None:
    """Most memory of a GPU that was allocated since `peak_from_now`, weights included; None for other devices."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


@contextmanager
def allocations(device: torch.device | str = "cpu") -> Iterator[Allocated]:
    """Count what is allocated inside of it, temporaries inside operations included.

    Args:
        device: whose memory. On a GPU the peak that PyTorch keeps for it is reset.

    Yields:
        Filled in at the end.
    """
    found, device = Allocated(), torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield found
        torch.cuda.synchronize(device)
        found.peak = torch.cuda.max_memory_allocated(device) - before
        found.kept = torch.cuda.memory_allocated(device) - before
        return
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        yield found
    assert profiler.profiler is not None
    results = profiler.profiler.kineto_results
    assert results is not None
    events = sorted((event.start_ns(), event.nbytes()) for event in results.events() if event.name() == MEMORY)
    live = np.cumsum([0, *(size for _, size in events)])
    found.peak, found.kept = int(live.max()), int(live[-1])
