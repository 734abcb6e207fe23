"""What a site does at a step beyond copying: refresh its memory, restore with it, or broadcast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from asymrnr.errors import ScheduleError


class Action(IntEnum):
    """What a site does at a step.

    REDUCE: as without actions: reduced and restored by copying at the site's rates, in full where they are 0.
    REFRESH: in full, and what the steps up to the next refresh need is kept.
    MEMORY: reduced at the site's rates, and what the reduction got wrong at the refresh is added.
    BROADCAST: what the attention module gave at the refresh, with nothing computed.
    """

    REDUCE = 0
    REFRESH = 1
    MEMORY = 2
    BROADCAST = 3


@dataclass(frozen=True)
class Windows:
    """What every refresh has to provide; a window is named by the column of its refresh.

    Attributes:
        table: (blocks, steps) int8 actions.
        source: (blocks, steps) window that a site refreshes or needs, -1 where it does neither.
        until: (blocks, steps) last column that needs the window, at the columns of refreshes.
        memory: (blocks, steps) bool, sites of the window restore with memory, at the columns of refreshes.
        broadcast: the same for broadcasting.
        rates: per feature the (blocks, steps) rates of the window's memory sites, at the columns of refreshes.
    """

    table: np.ndarray
    source: np.ndarray
    until: np.ndarray
    memory: np.ndarray
    broadcast: np.ndarray
    rates: dict[str, np.ndarray]

    @classmethod
    def of(cls, table: np.ndarray, rates: Mapping[str, np.ndarray]) -> Windows:
        """Follow every block through the steps.

        Args:
            table: see `check_actions`.
            rates: the schedule's.

        Raises:
            ScheduleError: a site has no refresh before it, or two memory sites of a window differ in rate.
        """
        source, until = np.full(table.shape, -1), np.full(table.shape, -1)
        memory, broadcast = np.zeros(table.shape, dtype=bool), np.zeros(table.shape, dtype=bool)
        kept = {feature: np.zeros(table.shape) for feature in ("Q", "V")}
        for block, step in np.argwhere(table != Action.REDUCE):
            action = Action(table[block, step])
            window = step if action == Action.REFRESH else source[block, :step].max(initial=-1)
            if window < 0:
                raise ScheduleError(
                    f"Block {block} is to {_VERBS[action]} at step {step} with no refresh (action 1) before it."
                )
            source[block, step], until[block, window] = window, step
            broadcast[block, window] |= action == Action.BROADCAST
            if action != Action.MEMORY:
                continue
            for feature, found in kept.items():
                rate = rates[feature][block, step] if feature in rates else 0.0
                if memory[block, window] and rate != found[block, window]:
                    raise ScheduleError(
                        f"Block {block} restores with memory at {feature} rates {found[block, window]:g} and {rate:g} "
                        f"after the same refresh at step {window}; give one rate from refresh to refresh."
                    )
                found[block, window] = rate
            memory[block, window] = True
        return cls(table, source, until, memory, broadcast, kept)


_VERBS = {Action.MEMORY: "restore with memory", Action.BROADCAST: "broadcast"}


def check_actions(actions: Any, rates: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """A schedule's actions as a read-only int8 table, or None where all are 0, which is the same as none.

    Args:
        actions: (blocks, steps) integers from 0 to 3, see `Action`.
        rates: the schedule's rate tables.

    Raises:
        ScheduleError: the table is malformed, or does not fit the rates.
    """
    if actions is None:
        return None
    found, shape = np.asarray(actions), next(iter(rates.values())).shape
    if found.shape != shape:
        raise ScheduleError(f"Actions have shape {found.shape}, but the rates {shape}; both must be (blocks, steps).")
    if found.dtype.kind not in "iu" or not np.isin(found, list(Action)).all():
        raise ScheduleError("Actions must be the integers 0 to 3; the table holds others.")
    if not found.any():
        return None
    if "H" in rates and rates["H"].any():
        raise ScheduleError("The schedule reduces H, which cannot be combined with actions; leave one of them out.")
    table = found.astype(np.int8)
    reduced = np.logical_or.reduce([values > 0 for values in rates.values()])
    for action, wrong, advice in (
        (Action.REFRESH, reduced, "refreshes, which is done in full, but has a rate; set it to 0"),
        (Action.BROADCAST, reduced, "broadcasts, which computes nothing, but has a rate; set it to 0"),
        (Action.MEMORY, ~reduced, "restores with memory but has no rate; give one, or compute it in full"),
    ):
        sites = np.argwhere((table == action) & wrong)
        if len(sites):
            raise ScheduleError(f"Block {sites[0][0]} at step {sites[0][1]} {advice}.")
    Windows.of(table, rates)
    table.setflags(write=False)
    return table
