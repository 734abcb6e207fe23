"""What the benchmark of faults counts as lost, and as made twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tuner.run.store import COST, MeasurementStore


@pytest.fixture
def witness() -> Any:
    from fault_jobs import Witness

    return Witness()


def put(folder: Path, name: str, cost: float) -> None:
    with MeasurementStore(folder) as log:
        log.put({"kind": "pair", "name": name}, {COST: cost})


def test_what_was_finished_before_a_strike_and_made_again_counts(witness: Any, tmp_path: Path) -> None:
    put(tmp_path / "workers" / "1", "a", 1.0)
    witness.look(tmp_path, strike=True)
    put(tmp_path, "a", 1.0)  # taken over
    witness.look(tmp_path)
    assert witness.twice == 0
    put(tmp_path / "workers" / "2", "a", 2.0)
    witness.look(tmp_path)
    assert witness.twice == 1
    assert witness.lost(tmp_path) == 0


def test_what_was_in_flight_does_not(witness: Any, tmp_path: Path) -> None:
    """The worker of a run that was struck finishes what the next run has made by another."""
    put(tmp_path / "workers" / "1", "a", 1.0)
    witness.look(tmp_path, strike=True)
    put(tmp_path / "workers" / "1", "b", 3.0)
    put(tmp_path / "workers" / "2", "b", 4.0)
    witness.look(tmp_path, strike=True)
    assert witness.twice == 0
    assert witness.lost(tmp_path) == 2  # the run has neither


def test_where_nothing_was_struck_everything_counts(witness: Any, tmp_path: Path) -> None:
    put(tmp_path / "workers" / "1", "a", 1.0)
    put(tmp_path / "workers" / "2", "a", 2.0)
    witness.look(tmp_path)
    assert witness.twice == 1
