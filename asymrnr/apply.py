"""Applies a schedule, or an observer, to a pipeline or denoiser."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from asymrnr.adapters import find_adapter
from asymrnr.artifact import Artifact
from asymrnr.artifact_io import Policy
from asymrnr.engine import Engine
from asymrnr.envelope import Envelope, Token
from asymrnr.errors import InterceptionError, ScheduleError
from asymrnr.extrapolation import install_extrapolation
from asymrnr.fit import Here, check_fit, why_not_compiled
from asymrnr.install import (
    Undo,
    base_model,
    find_sites,
    install,
    install_partner,
    is_compiled,
    watch_scheduler,
)
from asymrnr.notebook import html_table
from asymrnr.observation import Observer
from asymrnr.resolve import resolve
from asymrnr.schedule import Schedule
from asymrnr.summary import Summary
from asymrnr.target import denoisers, engine_of, sites
from asymrnr.uniform import UniformSchedule

_log = logging.getLogger("asymrnr")


class Handle:
    """An applied schedule or observer; as a context manager it verifies every step, and removes itself."""

    def __init__(self, engine: Engine, undo: list[Undo]) -> None:
        self._engine = engine
        self._undo = undo
        engine.handle = self

    @property
    def schedule(self) -> Schedule | None:
        """What is applied; None for an observer."""
        return self._engine.schedule

    @property
    def active(self) -> bool:
        """Whether it is still applied: neither removed nor replaced."""
        return bool(self._undo)

    def __repr__(self) -> str:
        what = "observer" if self.schedule is None else repr(self.schedule)
        return f"<Handle of {what}, {'active' if self.active else 'removed'}>"

    def _repr_html_(self) -> str:
        rows = [("what", "observer")] if self.schedule is None else self.schedule.facts()
        return html_table(f"Handle, {'active' if self.active else 'removed'}", rows)

    def remove(self) -> None:
        """Restore the model exactly as it was; further calls do nothing."""
        while self._undo:
            self._undo.pop()()
        self._engine.forget()

    def reset(self) -> None:
        """Begin a new generation with the next call, for denoisers driven without their pipeline."""
        self._engine.timesteps = None
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
        self._engine.strict = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self.active:
                self.verify()
        finally:
            self.remove()


def apply(
    target: Any, schedule: Schedule | UniformSchedule | Artifact | str | Path, policy: Policy = "nearest"
) -> Handle:
    """Reduce and restore the self-attention of a pipeline or denoiser as the schedule says.

    Only this instance changes; composes with attention backends and with diffusers' caches. A cache that the schedule
    brings along (`Schedule.partner`) is installed with it, and removed with it. A schedule that was applied before is
    replaced.

    Args:
        target: a diffusers pipeline, or its transformer or U-Net, compiled or not.
        schedule: rates per feature, block and step; or what `asymrnr.load` finds one by (a model's name, a file, the
            folder of a run), an artifact, or a `UniformSchedule`.
        policy: what to do where an artifact was made for something else. "nearest" refuses another denoiser, and warns
            of everything else that its certificate does not cover; "strict" refuses both, at once or at the first step
            of a generation of another kind; "off" compares nothing.

    Raises:
        ScheduleError: the schedule's number of blocks is not the model's. A rate that the token grid cannot reach is
            reported by the first generation, which knows the grid.
        ArtifactError: there is no such artifact, or it was made for something else.
        InterceptionError: the model is unknown, cannot be intercepted, is observed, or has a cache where the schedule
            brings one.

    Warns:
        OtherWorkload: the first generation has other steps than the schedule has, or another size than its artifact
            says, or guidance where that has none, or none; once, at its first step.
        NotCertified: as for `asymrnr.load`, and of a machine, sampler, data type, cache, adapter (LoRA), quantisation,
            offloading or sharding that the certificate does not cover.
    """
    found, artifact = resolve(schedule, len(sites(target)[0]))
    if artifact is not None:
        check_fit(artifact, Here.of(target, {}), policy)
    against = why_not_compiled(found)
    if against is not None and any(map(is_compiled, denoisers(target))):
        raise ScheduleError(f"The schedule {against}; use an eager model.")
    envelope = None
    if policy != "off":
        token = Token.of(target, base_model(denoisers(target)[0]))
        envelope = Envelope.of(found, artifact, token, refuses=policy == "strict", pipe=target)
    handle = _install(target, found, None, envelope)
    _log.info("applied %r to %s", found, type(target).__name__)
    return handle


def applied(target: Any) -> Handle | None:
    """The handle of what is applied to a pipeline or denoiser, if anything is.

    Raises:
        InterceptionError: the model is unknown.
    """
    engine = engine_of(target)
    handle: Handle | None = None if engine is None else engine.handle
    return handle


def remove(target: Any) -> bool:
    """Restore a pipeline or denoiser exactly as it was before anything was applied to it.

    Returns:
        Whether anything was.

    Raises:
        InterceptionError: the model is unknown.
    """
    handle = applied(target)
    if handle is not None:
        handle.remove()
    return handle is not None


def observe(target: Any, observer: Observer) -> Handle:
    """Show every self-attention call of a pipeline or denoiser to an observer; outputs do not change.

    Args:
        target: as for `apply`.
        observer: called with an `AttentionCall` after every call.

    Raises:
        InterceptionError: as for `apply`, or the model is compiled.
    """
    if any(map(is_compiled, denoisers(target))):
        raise InterceptionError("A compiled model cannot be observed; observe the eager one.")
    return _install(target, None, observer)


def _install(
    target: Any, schedule: Schedule | None, observer: Observer | None, envelope: Envelope | None = None
) -> Handle:
    models, attentions = denoisers(target), sites(target)
    adapter = find_adapter(base_model(models[0]))
    blocks = len(attentions[0]) if schedule is None else schedule.blocks
    for model, found in zip(models, attentions, strict=True):
        if len(found) != blocks:
            name = type(base_model(model)).__name__
            raise ScheduleError(f"The schedule is for {blocks} blocks, but this {name} has {len(found)}.")
    before = applied(target)
    if schedule is not None and before is not None and before.schedule is not None:  # is replaced
        before.remove()
    modules = [find_sites(model, adapter) for model in models]
    engine = Engine(adapter, blocks, schedule, observer, envelope)
    undo: list[Undo] = []
    try:
        for index, model in enumerate(models):
            undo += install(model, index, engine, modules[index])
        undo += watch_scheduler(getattr(target, "scheduler", None), engine)
        if schedule is not None and schedule.partner is not None and schedule.partner.is_planned:
            undo += install_extrapolation(models, schedule, engine)
        elif schedule is not None and schedule.partner is not None:
            for model in models:
                undo += install_partner(model, schedule.partner, engine)
    except BaseException:
        Handle(engine, undo).remove()
        raise
    return Handle(engine, undo)
