"""Installs the runtime on one pipeline, and takes it off again."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import torch

from asymrnr.adapters import adapter_for
from asymrnr.engine import Engine, Observer
from asymrnr.errors import InterceptionError, ScheduleError
from asymrnr.intercept import proxy_processor
from asymrnr.schedule import Schedule

_INSTALLED = "_asymrnr_handle"


@dataclass(frozen=True)
class Summary:
    """What the runtime did in the last generation.

    Attributes:
        calls: intercepted self-attention calls.
        steps_seen: denoising steps.
        matches: matchings computed; the rest came from the cache.
        reduced: per feature, how often each (block, schedule column) was reduced.
        planned: per feature, whether the schedule reduces it there.
    """

    calls: int
    steps_seen: int
    matches: int
    reduced: dict[str, np.ndarray]
    planned: dict[str, np.ndarray]

    def __str__(self) -> str:
        parts = [
            f"{feature} reduced at {int((counts > 0).sum())} of {int(self.planned[feature].sum())} planned sites"
            for feature, counts in self.reduced.items()
        ]
        done = ", ".join(parts) or "nothing to reduce"
        return f"{self.steps_seen} steps, {self.calls} attention calls, {self.matches} matchings; {done}"


class Handle:
    """The installed runtime. As a context manager it checks on leaving that the schedule did what it says."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._undo: list[Callable[[], None]] = []

    @property
    def sites(self) -> int:
        """Number of self-attention modules, the blocks of a schedule."""
        return len(self._engine.sites)

    def summary(self) -> Summary:
        """Counts of the last generation."""
        counts, schedule = self._engine.counts, self._engine.schedule
        return Summary(
            calls=int(counts.calls.sum()),
            steps_seen=len(counts.steps),
            matches=counts.matches,
            reduced={feature: table.copy() for feature, table in counts.reduced.items()},
            planned={feature: table > 0 for feature, table in schedule.rates.items()} if schedule else {},
        )

    def verify(self) -> None:
        """Check the last generation against the schedule.

        Raises:
            ScheduleError: a site was never intercepted, or was not reduced where the schedule says so.
        """
        self._engine.check()

    def remove(self) -> None:
        """Put everything back; outputs are bit for bit those of the plain model again. Harmless when repeated."""
        while self._undo:
            self._undo.pop()()

    def __enter__(self) -> Handle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.verify()
        finally:
            self.remove()


def apply(target: Any, schedule: Schedule) -> Handle:
    """Accelerate a pipeline, or a bare denoiser, with a schedule.

    Args:
        target: a diffusers pipeline with a `transformer` or `unet`, or such a module.
        schedule: what to reduce.

    Returns:
        A handle to remove it; use it as a context manager to have the effect checked.

    Raises:
        InterceptionError: the model is not supported, or already carries the runtime.
        ScheduleError: the schedule is for another number of blocks, or reduces H.
    """
    if np.any(schedule.rates.get("H", np.zeros(1)) > 0):
        raise ScheduleError("The schedule reduces H (symmetric reduction), which this release does not run; use Q and V.")
    return _install(target, schedule, None)


def observe(target: Any, observer: Observer) -> Handle:
    """Show every self-attention call of a pipeline, or a bare denoiser, to `observer`; outputs do not change.

    Raises:
        InterceptionError: the model is not supported, or already carries the runtime.
    """
    return _install(target, None, observer)


def _install(target: Any, schedule: Schedule | None, observer: Observer | None) -> Handle:
    denoiser = target if isinstance(target, torch.nn.Module) else _denoiser_of(target)
    adapter = adapter_for(denoiser)
    if _INSTALLED in denoiser.__dict__:
        raise InterceptionError("The model already carries a schedule or observer; remove that one first.")
    pattern = re.compile(adapter.sites)
    modules = [m for name, m in denoiser.named_modules() if pattern.fullmatch(name)]
    if not modules:
        raise InterceptionError(f"No attention module of {type(denoiser).__name__} matches '{adapter.sites}'.")
    if schedule is not None and schedule.blocks != len(modules):
        raise ScheduleError(f"The schedule is for {schedule.blocks} blocks, but the model has {len(modules)}.")
    engine = Engine(adapter, len(modules), schedule, observer)
    proxies = [proxy_processor(m.processor, site) for m, site in zip(modules, engine.sites, strict=True)]
    handle = Handle(engine)
    denoiser.__dict__[_INSTALLED] = handle
    handle._undo.append(lambda: denoiser.__dict__.pop(_INSTALLED))
    for module, proxy in zip(modules, proxies, strict=True):
        handle._undo.append(_swap_processor(module, proxy))
    branch = _watch_branch(denoiser, handle)
    names = list(inspect.signature(type(denoiser).forward).parameters)[1:]

    def before_forward(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for module, proxy in zip(modules, proxies, strict=True):
            if module.processor is not proxy:
                raise InterceptionError("An attention processor was replaced after the runtime was installed; install it again.")
        arguments = {**dict(zip(names, args, strict=False)), **kwargs}
        timestep = arguments["timestep"]
        timestep = float(timestep.max()) if isinstance(timestep, torch.Tensor) else float(timestep)
        engine.begin_pass(timestep, branch(), adapter.grid(denoiser, arguments))

    handle._undo.append(denoiser.register_forward_pre_hook(before_forward, with_kwargs=True).remove)
    scheduler = getattr(target, "scheduler", None)
    if scheduler is not None:
        _watch_scheduler(scheduler, engine, handle)
    return handle


def _denoiser_of(pipeline: Any) -> torch.nn.Module:
    for name in ("transformer", "unet"):
        module = getattr(pipeline, name, None)
        if isinstance(module, torch.nn.Module):
            return module
    raise InterceptionError(f"{type(pipeline).__name__} has no transformer or unet; pass the denoiser itself.")


def _swap_processor(module: Any, proxy: Any) -> Callable[[], None]:
    original = module.processor
    module.processor = proxy

    def undo() -> None:
        if module.processor is proxy:
            original.__dict__.update(proxy.__dict__)  # what was set on it meanwhile, such as the attention backend
            module.processor = original

    return undo


def _watch_branch(denoiser: Any, handle: Handle) -> Callable[[], str | None]:
    """Learn the guidance branch from `cache_context`, which pipelines of diffusers 0.35 and newer announce it with."""
    current: list[str | None] = [None]
    if not hasattr(denoiser, "cache_context"):
        return lambda: None
    original = denoiser.cache_context

    @contextmanager
    def cache_context(name: Any, *args: Any, **kwargs: Any) -> Any:
        current[0] = str(name)
        try:
            with original(name, *args, **kwargs) as value:
                yield value
        finally:
            current[0] = None

    denoiser.__dict__["cache_context"] = cache_context
    handle._undo.append(lambda: denoiser.__dict__.pop("cache_context", None))
    return lambda: current[0]


def _watch_scheduler(scheduler: Any, engine: Engine, handle: Handle) -> None:
    """`set_timesteps` is the exact start of a generation."""
    original = scheduler.set_timesteps

    @functools.wraps(original)  # pipelines inspect its signature
    def set_timesteps(*args: Any, **kwargs: Any) -> Any:
        engine.tracker.new_generation()
        return original(*args, **kwargs)

    scheduler.set_timesteps = set_timesteps
    handle._undo.append(lambda: scheduler.__dict__.pop("set_timesteps", None))
