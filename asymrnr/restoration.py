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

if TYPE_CHECKING:
    from asymrnr.site import Site


@dataclass(frozen=True)
class Residual:
    """What a refresh leaves for memory steps.

    Attributes:
        queries, keys: joint plans, or None where nothing is reduced.
        rest: (batch, heads, n, head dim) what the reduction got wrong.
        where: (batch, heads, n) int32, the tokens that it got wrong; None for all of the joint sequence.
    """

    queries: Plan | None
    keys: Plan | None
    rest: torch.Tensor
    where: torch.Tensor | None

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All that takes memory."""
        plans = [plan for plan in (self.queries, self.keys) if plan is not None]
        indices = [index for plan in plans for index in (plan.take, plan.back)]
        return (self.rest, *indices, *([] if self.where is None else [self.where]))

    def correct(self, copied: torch.Tensor) -> torch.Tensor:
        """Add what the reduction got wrong to (batch, heads, joint tokens, head dim), which may be overwritten."""
        if self.where is None:
            return copied + self.rest
        add_tokens(copied, self.where, self.rest)
        return copied


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
        engine.counter.mark_held(memory.held())
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
    full = call.turn(output.detach())
    if keys is None and queries is not None:  # the queries kept gave the same in the full attention
        wrong = queries.dropped()
        rest = full - queries.restore(queries.reduce(full))
        return Residual(queries, None, gather_tokens(rest, wrong), wrong)
    copied = call.turn(_reduced(site, call, queries, keys).detach())
    return Residual(queries, keys, full - copied, None)


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
        output = memory.recall(site.row, name)
        if output is not None:
            engine.counter.mark_broadcast(site.row)
            return output
    site.refreshed = False
    output = inner()
    if site.refreshed and memory.windows.broadcast[site.row, memory.window(site.row)]:
        parts = output if isinstance(output, tuple) else (output,)
        parts = tuple(part.detach() if isinstance(part, torch.Tensor) else part for part in parts)
        tensors = tuple(part for part in parts if isinstance(part, torch.Tensor))
        memory.keep(site.row, name, parts if isinstance(output, tuple) else parts[0], tensors)
        engine.counter.mark_held(memory.held())
    return output
