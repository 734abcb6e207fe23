"""Records of pairs whose schedules restore with memory and broadcast, and of pairs recorded before there were any."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest

from asymrnr.actions import Action
from asymrnr.schedule import Schedule
from tests.pipelines.helpers import schedule
from tests.pipelines.tiny_pipelines import build, tiny_entry
from tuner.run.estimate import PairedSteps, estimate_pair
from tuner.run.pair import Pair, from_record, to_record
from tuner.run.runner import Generation, Runner
from tuner.run.store import MeasurementStore

STEPS = 4
ROWS = {
    "broadcasting": [[Action.REFRESH, Action.BROADCAST, Action.BROADCAST, Action.REDUCE]],
    "memory": [[Action.REFRESH, Action.MEMORY, Action.MEMORY, Action.REDUCE]],
    "both": [
        [Action.REFRESH, Action.MEMORY, Action.REFRESH, Action.BROADCAST],
        [Action.REFRESH, Action.BROADCAST, Action.MEMORY, Action.REDUCE],
    ],
}


@functools.cache
def runner() -> Runner:
    return Runner(build("mochi"), tiny_entry("mochi", STEPS))


@functools.cache
def plain() -> Generation:
    return runner().generate("a cat", 3)


def acting(rows: list[list[Action]]) -> Schedule:
    """Rows of actions for block after block; sites that reduce have rates of Q, and of V where they copy."""
    blocks = schedule(runner().pipe, 0.5, 0.4, STEPS).blocks
    actions = np.array([rows[block % len(rows)] for block in range(blocks)])
    copies = actions == Action.REDUCE
    rates = {"Q": np.where(copies | (actions == Action.MEMORY), 0.5, 0.0), "V": np.where(copies, 0.4, 0.0)}
    return Schedule(rates, actions=actions, cache_step=2)


def recorded(folder: Path, plan: Schedule, *without: str) -> Pair:
    """Generated, kept, and read again, with some values missing."""
    values, arrays = to_record(plain(), runner().generate("a cat", 3, plan), plan, "alternating")
    values = {name: value for name, value in json.loads(json.dumps(values)).items() if name not in without}
    with MeasurementStore(folder) as store:
        store.put({"prompt": "a cat", "seed": 3}, values, arrays)
        record = store.get({"prompt": "a cat", "seed": 3})
    assert record is not None
    return from_record(record)


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_every_site_that_was_planned_is_counted(rows: list[list[Action]], tmp_path: Path) -> None:
    plan = acting(rows)
    pair = recorded(tmp_path, plan)
    assert plan.actions is not None
    broadcast = np.count_nonzero(plan.actions == Action.BROADCAST)
    assert pair.reduced_sites == plan.planned_sites()
    assert plan.planned_sites() == broadcast + sum(np.count_nonzero(table) for table in plan.rates.values())
    np.testing.assert_array_equal(pair.attention, plan.attention_of_steps())
    np.testing.assert_array_equal(pair.broadcast, (plan.actions == Action.BROADCAST).mean(axis=0))
    assert pair.denoise.steps == STEPS
    assert np.isfinite(pair.denoise.log_speedup)
    assert np.isfinite(pair.end_to_end)


def test_the_estimate_knows_what_broadcast_and_what_refreshed(tmp_path: Path) -> None:
    pair = recorded(tmp_path, acting(ROWS["both"]))
    seconds = pair.plain.step_seconds, pair.tuned.step_seconds
    assert pair.denoise == estimate_pair(PairedSteps(*seconds, pair.attention, pair.broadcast, pair.matchings))


def test_records_from_before_there_was_broadcasting_are_read(tmp_path: Path) -> None:
    plan = schedule(runner().pipe, 0.5, 0.4, STEPS)
    pair = recorded(tmp_path, plan, "broadcast", "matchings")
    assert pair.broadcast.tolist() == pair.matchings.tolist() == [0.0] * STEPS
    assert pair.reduced_sites == plan.planned_sites()
    assert pair.denoise == estimate_pair(PairedSteps(pair.plain.step_seconds, pair.tuned.step_seconds, pair.attention))
