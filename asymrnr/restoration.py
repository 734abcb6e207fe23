"""Restoration with memory: what a reduction got wrong at the last full step, added to what it gives now.

    at a refresh t0:  R = O(t0) - M(t0),  M = restore(attention(reduced q, k, v))
    later, at t:      O'(t) = M(t) + R,   with the matching of t0

With R = 0 it is the paper's copying; with everything dropped it is broadcasting, which gives what the attention module
gave at t0. Queries are dropped head by head, so few tokens are dropped in all heads and every projection is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from asymrnr.actions import Action
from asymrnr.call import Call
from asymrnr.reduction import Plan, add_tokens, gather_tokens
from asymrnr.storage import Kept, Storage

if TYPE_CHECKING:
    from asymrnr.site import Site


@dataclass(frozen=True)
class Residual:
    """What a refresh leaves for memory steps.

    Attributes:
        queries, keys: joint plans, or None where nothing is reduced.
        rest: what the reduction got wrong, (batch, heads, n, head dim).
        where: (batch, heads, n) int32, the tokens that it got wrong; None for all of the joint sequence.
    """

    queries: Plan | None
    keys: Plan | None
    rest: Kept
    where: torch.Tensor | None

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All that takes memory."""
        plans = [plan for plan in (self.queries, self.keys) if plan is not None]
        indices = [index for plan in plans for index in (plan.take, plan.back)]
        return (*self.rest.tensors(), *indices, *([] if self.where is None else [self.where]))

    def correct(self, copied: torch.Tensor) -> torch.Tensor:
        """Add what the reduction got wrong to (batch, heads, joint tokens, head dim), which may be overwritten."""
        if self.where is None:
            return copied + self.rest.tensor()
        add_tokens(copied, self.where, self.rest.tensor())
        return copied


@dataclass(frozen=True)
class Output:
    """What an attention module gave at a refresh.

    Attributes:
        parts: of a tuple, or the one thing that it gave.
        alone: it is the one thing.
    """

    parts: tuple[Any, ...]
    alone: bool

    @classmethod
    def of(cls, output: Any, storage: Storage) -> Output:
        """Tensors as they are to be kept, anything else as it is."""
        alone = not isinstance(output, tuple)
        parts = (output,) if alone else output
        kept = (Kept.of(part.detach(), storage) if isinstance(part, torch.Tensor) else part for part in parts)
        return cls(tuple(kept), alone)

    def value(self) -> Any:
        """What the module gave."""
        parts = tuple(part.tensor() if isinstance(part, Kept) else part for part in self.parts)
        return parts[0] if self.alone else parts

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All that takes memory."""
        return tuple(tensor for part in self.parts if isinstance(part, Kept) for tensor in part.tensors())


def attend_with_memory(site: Site, call: Call, action: Action) -> torch.Tensor:
    """Stand in for one attention call of a site that refreshes, restores with memory, or cannot broadcast yet.

    Returns:
        The output in the layout of the operation.
    """
    engine, memory = site.engine, site.engine.memory
    assert memory is not None
    block, window = site.row, memory.window(site.row)
    name = ("residual", site.batch, call.index, call.grid, call.query.shape)
    if action == Action.MEMORY:
        found: Residual | None = memory.recall(block, name)
        if found is not None:
            for feature, plan in (("Q", found.queries), ("V", found.keys)):
                if plan is not None:
                    engine.counter.mark_reduced(feature, block)
            engine.counter.mark_action(Action.MEMORY, block)
            return call.turn(found.correct(call.turn(_reduced(site, call, found.queries, found.keys))))
    engine.counter.mark_action(Action.REFRESH, block)
    site.refreshed = True
    memory.drop(block, name)
    output = call.full()
    if memory.windows.memory[block, window]:
        residual = _residual(site, call, output, window)
        memory.keep(block, name, residual, residual.tensors())
        engine.mark_held()
    return output


def _reduced(site: Site, call: Call, queries: Plan | None, keys: Plan | None) -> torch.Tensor:
    schedule = site.engine.schedule
    mean = schedule is not None and schedule.reduction == "mean"
    return call.reduced(queries, keys, mean, site.engine.adapter.uniform_mask)


def _residual(site: Site, call: Call, output: torch.Tensor, window: int) -> Residual:
    engine = site.engine
    assert engine.memory is not None
    plans: list[Plan | None] = []
    for feature, features in (("Q", call.query), ("V", call.value)):
        rate = float(engine.memory.windows.rates[feature][site.row, window])
        if rate == 0:
            plans.append(None)
            continue
        match = engine.match(feature, site.row, features, call.grid, call.video, engine.tracker.step)
        plans.append(match.plan(rate).joint(call.video.start, features.shape[2] - call.video.stop))
    queries, keys = plans
    storage = engine.memory.storage
    full = call.turn(output.detach())
    if keys is None and queries is not None:  # the queries kept gave the same in the full attention
        wrong = queries.dropped()
        rest = full - queries.restore(queries.reduce(full))
        return Residual(queries, None, Kept.of(gather_tokens(rest, wrong), storage), wrong)
    copied = call.turn(_reduced(site, call, queries, keys).detach())
    return Residual(queries, keys, Kept.of(full - copied, storage), None)


def call_or_broadcast(site: Site, hidden: torch.Tensor, inner: Callable[[], Any]) -> Any:
    """Run an attention processor, or give what it gave at the refresh; the latter computes nothing.

    Args:
        site: where.
        hidden: its hidden states.
        inner: runs it.
    """
    engine, memory = site.engine, site.engine.memory
    assert memory is not None
    name = ("output", hidden.shape)
    if engine.counter.action(site.row) == Action.BROADCAST:
        kept: Output | None = memory.recall(site.row, name)
        if kept is not None:
            engine.counter.mark_broadcast(site.row)
            return kept.value()
    site.refreshed = False
    output = inner()
    if site.refreshed and memory.windows.broadcast[site.row, memory.window(site.row)]:
        kept = Output.of(output, memory.storage)
        memory.keep(site.row, name, kept, kept.tensors())
        engine.mark_held()
    return output
