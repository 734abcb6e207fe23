"""What a worker hands back across processes: values and arrays, that it is busy elsewhere, or an error in words."""

from __future__ import annotations

from typing import Any

import torch

from asymrnr import errors as of_runtime
from tuner import errors as of_tuner
from tuner.run.job import Made

MADE, ELSEWHERE, FAILED = "made", "elsewhere", "failed"
NO_MEMORY = "can't allocate memory"  # of torch's allocator
Answer = tuple[Any, ...]
"""(MADE, values, arrays), (ELSEWHERE,) or (FAILED, class, message)."""


def made(measured: Made) -> Answer:
    """An answer that holds a measurement."""
    return (MADE, *measured)


def failed(error: BaseException) -> Answer:
    """An answer that holds an error; torch has no class of its own for main memory that is used up."""
    name, said = type(error).__name__, str(error).strip() or type(error).__name__
    return FAILED, MemoryError.__name__ if NO_MEMORY in said else name, said.splitlines()[0]


def error_of(answer: Answer) -> Exception:
    """The error that a worker met, as one of the same class where that is one of ours, or about memory."""
    _, name, message = answer
    known = {"OutOfMemoryError": torch.OutOfMemoryError, "MemoryError": MemoryError}
    found: Any = known.get(name) or getattr(of_tuner, name, None) or getattr(of_runtime, name, None)
    if isinstance(found, type) and issubclass(found, Exception):
        return found(message)
    return RuntimeError(f"A worker failed with {name}: {message}")
