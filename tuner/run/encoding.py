"""Encodes every prompt once: both sides of a pair, and all that is measured on one prompt, share what came out."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from diffusers import DiffusionPipeline

from tuner.run.clock import now

PLAIN = (str, int, float, bool, type(None), torch.device, torch.dtype)


class EncodeOnce:
    """Takes the place of a pipeline's `encode_prompt`, and of that of its twins.

    Calls that are handed tensors or pictures go through. Whole calls are timed as if they had encoded their prompt, so
    that it does not matter which side of a pair comes first.

    Attributes:
        spared: seconds that the calls so far would have taken beyond what they took.
    """

    def __init__(self, pipe: DiffusionPipeline) -> None:
        self._encode, self._device = pipe.encode_prompt, pipe._execution_device
        self._known: dict[Hashable, tuple[Any, float]] = {}
        self.spared = 0.0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        key = _key((args, kwargs))
        if key is None:
            return self._encode(*args, **kwargs)
        if key in self._known:
            encoded, seconds = self._known[key]
            self.spared += seconds
            return encoded
        began = now(self._device)
        encoded = self._encode(*args, **kwargs)
        self._known[key] = (encoded, now(self._device) - began)
        return encoded


def encode_once(pipe: DiffusionPipeline) -> EncodeOnce | None:
    """Have a pipeline encode every prompt once; None where it has no method for it."""
    present = getattr(pipe, "encode_prompt", None)
    if present is None or isinstance(present, EncodeOnce):
        return present
    pipe.encode_prompt = EncodeOnce(pipe)
    return pipe.encode_prompt


def _key(value: Any) -> Hashable | None:
    """What tells calls apart; None where there is more to them than plain values."""
    if isinstance(value, dict):
        value = tuple(sorted(value.items()))
    if isinstance(value, list | tuple):
        parts = tuple(_key(part) for part in value)
        return None if any(part is None for part in parts) else parts
    return (type(value), value) if isinstance(value, PLAIN) else None
