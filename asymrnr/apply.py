"""Applies a schedule, or an observer, to a pipeline or denoiser."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from torch import nn

from asymrnr.actions import Action
from asymrnr.adapters import find_adapter
from asymrnr.engine import Engine
from asymrnr.errors import InterceptionError, ScheduleError
from asymrnr.install import Undo, base_model, find_sites, install, install_partner, is_compiled, watch_scheduler
from asymrnr.observation import Observer
from asymrnr.schedule import Schedule
from asymrnr.summary import Summary


class Handle:
    """An applied schedule or observer; as a context manager it verifies and removes itself."""

    def __init__(self, engine: Engine, undo: list[Undo]) -> None:
        self._engine = engine
        self._undo = undo

    def remove(self) -> None:
        """Restore the model exactly as it was; further calls do nothing."""
        while self._undo:
            self._undo.pop()()
        self._engine.forget()

    def reset(self) -> None:
        """Begin a new generation with the next call, for denoisers driven without their pipeline."""
        self._engine.last_step = None
        self._engine.new_generation()

    def summary(self) -> Summary:
        """What the last generation did."""
        return self._engine.counter.summary()

    def verify(self) -> None:
        """Check that the last generation did what the schedule says.

        Raises:
            ScheduleError: the model was not called, or fewer sites were reduced, restored with memory or broadcast than
                the schedule says. Sites that a step or block cache skipped, or whose refresh it skipped, do not count
                as missed.
            InterceptionError: an observer did not see all attention calls.
        """
        self._engine.counter.verify()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.verify()
        finally:
            self.remove()


def apply(target: Any, schedule: Schedule) -> Handle:
    """Reduce and restore the self-attention of a pipeline or denoiser as the schedule says.

    Only this instance changes; composes with attention backends and with diffusers' caches. A cache that the schedule
    brings along (`Schedule.partner`) is installed with it, and removed with it.

    Args:
        target: a diffusers pipeline, or its transformer or U-Net, compiled or not.
        schedule: rates per feature, block and step.

    Raises:
        ScheduleError: the schedule's number of blocks is not the model's. A rate that the token grid cannot reach is
            reported by the first generation, which knows the grid.
        InterceptionError: the model is unknown, cannot be intercepted, or has something applied already, or a cache
            where the schedule brings one.
    """
    if not isinstance(schedule, Schedule):
        raise ScheduleError(f"apply takes a Schedule, not {type(schedule).__name__}; use asymrnr.load for a profile.")
    if any(map(is_compiled, _denoisers(target))):
        if "H" in schedule.rates and schedule.rates["H"].any():
            raise ScheduleError("The schedule reduces H, which changes shapes in compiled code; use an eager model.")
        if schedule.actions is not None and (schedule.actions == Action.BROADCAST).any():
            raise ScheduleError("The schedule broadcasts, which leaves out compiled code; use an eager model.")
        if schedule.partner is not None:
            raise ScheduleError("The schedule brings a cache, which leaves out compiled code; use an eager model.")
    return _install(target, schedule, None)


def observe(target: Any, observer: Observer) -> Handle:
    """Show every self-attention call of a pipeline or denoiser to an observer; outputs do not change.

    Args:
        target: as for `apply`.
        observer: called with an `AttentionCall` after every call.

    Raises:
        InterceptionError: as for `apply`, or the model is compiled.
    """
    if any(map(is_compiled, _denoisers(target))):
        raise InterceptionError("A compiled model cannot be observed; observe the eager one.")
    return _install(target, None, observer)


def _install(target: Any, schedule: Schedule | None, observer: Observer | None) -> Handle:
    models = _denoisers(target)
    adapter = find_adapter(base_model(models[0]))
    modules = [find_sites(model, adapter) for model in models]
    blocks = len(modules[0])
    for model, found in zip(models, modules, strict=True):
        expected = blocks if schedule is None else schedule.blocks
        if len(found) != expected:
            raise ScheduleError(
                f"The schedule is for {expected} blocks, but this {type(base_model(model)).__name__} has {len(found)}."
            )
    engine = Engine(adapter, blocks, schedule, observer)
    undo: list[Undo] = []
    try:
        for index, model in enumerate(models):
            undo += install(model, index, engine, modules[index])
        undo += watch_scheduler(getattr(target, "scheduler", None), engine)
        if schedule is not None and schedule.partner is not None:
            for model in models:
                undo += install_partner(model, schedule.partner, engine)
    except BaseException:
        Handle(engine, undo).remove()
        raise
    return Handle(engine, undo)


def _denoisers(target: Any) -> list[nn.Module]:
    if isinstance(target, nn.Module):
        return [target]
    parts = (getattr(target, name, None) for name in ("transformer", "transformer_2", "unet"))
    models = [part for part in parts if isinstance(part, nn.Module)]
    if not models:
        raise InterceptionError(f"{type(target).__name__} is no diffusers pipeline or denoiser; pass one of these.")
    return models
