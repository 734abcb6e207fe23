"""What windows keep, and how a limit on it is held."""

from __future__ import annotations

import numpy as np
import pytest

from asymrnr.actions import Action
from asymrnr.storage import Storage
from tests.search.conftest import BLOCKS
from tuner.latency.model import LatencyModel
from tuner.profile.profile import Profile
from tuner.search.footprint import blocks_within, window_bytes
from tuner.search.memory import KINDS, MemorySolver
from tuner.search.space import SearchSpace
from tuner.search.windows import Program

VIDEO, TEXT, HEADS, HEAD_DIM = 4 * 8 * 8, 8, 2, 16  # of the surface in conftest.py, in one batch


def test_bytes_are_those_of_the_tensors_kept(model: LatencyModel) -> None:
    broadcast = window_bytes(model.sites, Program(Action.BROADCAST), itemsize=2)
    memory = window_bytes(model.sites, Program(Action.MEMORY, 0.75), itemsize=4)
    assert broadcast == pytest.approx([HEADS * (VIDEO + TEXT) * HEAD_DIM * 2] * BLOCKS)
    assert memory == pytest.approx([HEADS * (0.75 * VIDEO * HEAD_DIM * 4 + 8 * (VIDEO + TEXT))] * BLOCKS)


def test_8_bits_take_a_byte_a_number_and_a_scale_a_row(model: LatencyModel) -> None:
    broadcast = window_bytes(model.sites, Program(Action.BROADCAST), 2, "int8")
    memory = window_bytes(model.sites, Program(Action.MEMORY, 0.75), 4, "int8")
    assert broadcast == pytest.approx([(VIDEO + TEXT) * (HEADS * HEAD_DIM + 4)] * BLOCKS)
    assert memory == pytest.approx([HEADS * (0.75 * VIDEO * (HEAD_DIM + 4) + 8 * (VIDEO + TEXT))] * BLOCKS)


def test_the_preferred_blocks_share_the_limit() -> None:
    most, preference = np.array([4.0, 4.0, 4.0]), np.array([3.0, 1.0, 2.0])
    assert blocks_within(most, preference, None).tolist() == [True, True, True]
    assert blocks_within(most, preference, 8.0).tolist() == [False, True, True]
    assert blocks_within(most, preference, 7.9).tolist() == [False, True, False]
    assert blocks_within(most, preference, 1.0).tolist() == [False, False, False]


@pytest.mark.parametrize("sharing", KINDS)
@pytest.mark.parametrize("allowed", [0, 1, 2])
def test_schedules_keep_within_the_limit(
    remembering: Profile, whole: LatencyModel, space: SearchSpace, sharing: str, allowed: int
) -> None:
    unlimited = MemorySolver(remembering, whole, space)
    every = unlimited.programs
    each = max(float(window_bytes(whole.sites, program, 4, "int8").max()) for program in every)
    limited = space.model_copy(update={"memory_bytes": (allowed + 0.5) * each})
    solver = MemorySolver(remembering, whole, limited)
    schedule = solver.candidate(sharing, 50.0).schedule  # type: ignore[arg-type]
    assert schedule.storage == "int8"
    used = 0 if schedule.actions is None else int((schedule.actions > 0).any(axis=1).sum())
    assert used == allowed
    assert solver.attainable < unlimited.attainable


def test_8_bits_are_only_used_where_there_is_no_room_otherwise(
    remembering: Profile, whole: LatencyModel, space: SearchSpace
) -> None:
    programs = MemorySolver(remembering, whole, space).programs

    def used(storage: Storage, share: float) -> tuple[Storage, int]:
        most = max(float(window_bytes(whole.sites, program, 4, storage).max()) for program in programs)
        limited = space.model_copy(update={"memory_bytes": share * BLOCKS * most})
        schedule = MemorySolver(remembering, whole, limited).candidate("alike", 50.0).schedule
        assert schedule.actions is not None
        return schedule.storage, int((schedule.actions > 0).any(axis=1).sum())

    assert used("model", 1.01) == ("model", BLOCKS)
    assert used("model", 0.99) == ("int8", BLOCKS)
    assert used("int8", 1.01) == ("int8", BLOCKS)
    assert used("int8", 0.99) == ("int8", BLOCKS - 1)
