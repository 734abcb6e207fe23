"""Running out of memory, said in one sentence with the option that helps."""

from __future__ import annotations

import torch

OF_MAIN_MEMORY = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory")
KEPT = "everything measured is kept, add --resume to go on."


def advice(error: BaseException, offload: str = "none") -> str | None:
    """What to do, if an error says that memory ran out, or None.

    Args:
        error: whatever ended a piece of work.
        offload: how the model was loaded, see `tuner.models.LoadOptions`.
    """
    smaller = "ask for fewer --frames or less --height and --width, or let schedules keep less with --memory"
    if isinstance(error, torch.OutOfMemoryError):
        first = "add --offload model, " if offload == "none" else ""
        return f"The device ran out of memory; {first}{smaller}"
    text = str(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(t in text for t in OF_MAIN_MEMORY)):
        return f"The main memory of this machine is used up; end other work on it, or {smaller}"
    return None
