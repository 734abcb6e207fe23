"""Tells of the ends of steps in pipelines that have no callback for them: a step ends with the sampler's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

from diffusers import DiffusionPipeline


@contextmanager
def told_of_steps(pipe: DiffusionPipeline, on_step_end: Callable[..., dict[str, Any]]) -> Iterator[None]:
    """Call what a pipeline would be given as `callback_on_step_end`, in this block.

    Args:
        pipe: generates with `scheduler.step(..., return_dict=False)`.
        on_step_end: called with the pipeline, the step, its timestep, and {"latents": ...}; may give others back.
    """
    scheduler, steps = pipe.scheduler, count()
    own, original = vars(scheduler).get("step"), scheduler.step

    @functools.wraps(original)
    def step(model_output: Any, timestep: Any, *args: Any, **kwargs: Any) -> Any:
        latents, *others = original(model_output, timestep, *args, **kwargs)
        changed = on_step_end(pipe, next(steps), timestep, {"latents": latents})
        return (changed.get("latents", latents), *others)

    scheduler.step = step
    try:
        yield
    finally:
        del scheduler.step
        if own is not None:
            scheduler.step = own
