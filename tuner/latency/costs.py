"""What sites take by what they do (`asymrnr.Action`), apart by the coefficients of the latency model.

    REDUCE      attention at its rates, and gathering; its matchings belong to cache windows
    REFRESH     attention in full; for memory sites a matching of every feature that they reduce, gathering to learn
                what their reduction gets wrong, and where it reduces V a second attention, at their rates
    MEMORY      attention at its rates, and gathering, also to add what was wrong
    BROADCAST   nothing of the whole attention module, so that its projections are spared as well

Gathering is all that picks, restores, adds and subtracts tokens, and planning, which memory sites have done before; it
takes so little that they are charged for it as copying ones are.
"""

from __future__ import annotations

import numpy as np

from asymrnr.actions import Action
from asymrnr.schedule import Schedule
from tuner.latency.sites import SiteLatency
from tuner.strides import stride_name

PARTS = 4  # attention, gathering, matching, projection


def action_parts(
    sites: SiteLatency, action: Action, rate_q: np.ndarray | float, rate_v: np.ndarray | float, stride: str
) -> np.ndarray:
    """Seconds of one step by part, without the matchings of cache windows.

    Args:
        sites: what attention, gathering, matching and projections take.
        action: what is done.
        rate_q, rate_v: rates, which broadcast to (blocks, ...); those of a refresh are those of the memory sites up to
            the next one, and 0 where there are none.
        stride: what a refresh matches with.

    Returns:
        (4, blocks, ...): attention, gathering, matching, and what is spared of the projections, from 0 down.

    Raises:
        UsageError: the stride was not measured, and a refresh matches.
    """
    shape = (sites.blocks, *np.broadcast_shapes(np.shape(rate_q), np.shape(rate_v))[1:])
    q, v = np.broadcast_to(rate_q, shape), np.broadcast_to(rate_v, shape)
    by_block = (sites.blocks, *[1] * (len(shape) - 1))
    parts = np.zeros((PARTS, *shape))
    if action == Action.BROADCAST:
        parts[3] = -sites.projection_seconds.reshape(by_block)
        return parts
    attention, gathering = sites.attention_seconds(q, v), sites.gathering_seconds(q, v)
    if action == Action.REDUCE:
        parts[:2] = attention, gathering
        return parts
    if action == Action.MEMORY:
        parts[:2] = attention, gathering + sites.adding_seconds(q, v)
        return parts
    parts[0] = sites.attention_seconds(np.zeros(shape), 0.0) + np.where(v > 0, attention, 0.0)
    parts[1] = gathering + sites.learning_seconds(q, v)
    matched = (q > 0).astype(int) + (v > 0)
    if matched.any():
        parts[2] = matched * sites.matching_seconds(stride).reshape(by_block)
    return parts


def schedule_parts(sites: SiteLatency, schedule: Schedule) -> np.ndarray:
    """(4, steps) seconds of every step by part, see `action_parts`; steps that a cache leaves out as if it did not.

    Args:
        sites: of as many blocks as the schedule has.
        schedule: reduces Q and V.

    Raises:
        UsageError: the stride was not measured, and a refresh matches.
    """
    zero = np.zeros((schedule.blocks, schedule.steps))
    own = {feature: schedule.rates.get(feature, zero) for feature in ("Q", "V")}
    windows = schedule.windows()
    table, of_memory = (zero, own) if windows is None else (windows.table, windows.rates)
    parts = np.zeros((PARTS, *zero.shape))
    for action in Action:
        here = table == action
        if here.any():
            rates = of_memory if action == Action.REFRESH else own
            found = action_parts(sites, action, rates["Q"], rates["V"], stride_name(schedule.stride))
            parts = np.where(here, found, parts)
    by_step: np.ndarray = parts.sum(axis=1)
    return by_step
