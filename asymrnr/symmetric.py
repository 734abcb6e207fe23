"""Symmetric reduction: shortens the hidden states before the projections, as ToMe does (paper equation 3)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from asymrnr.errors import InterceptionError
from asymrnr.reduction import Plan
from asymrnr.site import Site

ROTARY_ARGUMENTS = ("image_rotary_emb", "rotary_emb")


def attend_reduced(site: Site, rate: float, inner: Callable[..., Any], bound: inspect.BoundArguments) -> Any:
    """Run a processor on reduced hidden states and restore its output.

    With rotary embeddings, whose tables the batch shares, one matching serves the whole batch (on the channels of all
    items) and picks the tables' rows as well; otherwise every batch item has its own matching.

    Args:
        site: where.
        rate: share of the video tokens to drop.
        inner: the processor's call.
        bound: its arguments; `hidden_states` is (batch, tokens, channels).

    Returns:
        What the processor returns, at full length.

    Raises:
        InterceptionError: the hidden states do not hold the token grid, or the rotary tables do not follow it.
    """
    arguments = bound.arguments
    hidden = arguments["hidden_states"]
    engine = site.engine
    located = engine.locate(hidden.shape[1]) if hidden.dim() == 3 else None
    if located is None:
        raise InterceptionError(f"H cannot be reduced at block {site.row}: its hidden states hold no video tokens.")
    grid, video = located
    rotary = next((name for name in ROTARY_ARGUMENTS if arguments.get(name) is not None), None)
    features = hidden[:, None] if rotary is None else hidden.transpose(0, 1).flatten(1)[None, None]
    plan = engine.plan(site, "H", 0, features, grid, video, rate)
    plan = Plan(plan.take.expand(hidden.shape[0], -1, -1), plan.back.expand(hidden.shape[0], -1, -1))
    mean = engine.schedule is not None and engine.schedule.reduction == "mean"
    arguments["hidden_states"] = (plan.reduce_mean if mean else plan.reduce)(hidden[:, None])[:, 0]
    if rotary is not None:
        arguments[rotary], found = _take_rows(arguments[rotary], plan.take[0, 0], hidden.shape[1])
        if not found:
            raise InterceptionError(f"H cannot be reduced at block {site.row}: no rotary table has a row per token.")
    mask = arguments.get("attention_mask")
    if isinstance(mask, torch.Tensor) and engine.adapter.mask != "other":
        arguments["attention_mask"] = _reduce_keys(mask, plan, video, engine.adapter.uniform_mask)
    engine.counter.mark_call(site.row)
    site.symmetric = True
    try:
        output = inner(*bound.args, **bound.kwargs)
    finally:
        site.symmetric = False
    first, *others = output if isinstance(output, tuple) else (output,)
    restored = plan.restore(first[:, None])[:, 0]
    return (restored, *others) if isinstance(output, tuple) else restored


def _take_rows(tables: Any, rows: torch.Tensor, tokens: int) -> tuple[Any, bool]:
    """Pick the rows of all (nested) tables that have an axis over the tokens; tells whether there were any."""
    if isinstance(tables, tuple | list):
        parts = [_take_rows(part, rows, tokens) for part in tables]
        return type(tables)(part for part, _ in parts), any(found for _, found in parts)
    if isinstance(tables, torch.Tensor) and tokens in tables.shape:
        return tables.index_select(tables.shape.index(tokens), rows.to(tables.device)), True
    return tables, False


def _reduce_keys(mask: torch.Tensor, plan: Plan, video: slice, uniform: bool) -> torch.Tensor:
    """Shorten the last axis of a mask of shape (batch, ..., keys), which may go on to cover text."""
    if uniform:
        dropped = plan.back.shape[-1] - plan.take.shape[-1]
        before, after = mask.tensor_split([video.start, video.start + dropped], -1)[::2]
        return torch.cat([before, after], -1)
    index = plan.take.long().view(plan.take.shape[0], *[1] * (mask.dim() - 2), -1)
    return mask.gather(-1, index.expand(*mask.shape[:-1], -1))
