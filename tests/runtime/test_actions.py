"""Which action tables a schedule takes, and what it makes of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from asymrnr import Action, Schedule, ScheduleError
from asymrnr.actions import Windows


def one_block(actions: Any, q: Any, v: Any = None, **settings: Any) -> Schedule:
    rates = {"Q": np.array([q], dtype=float)} | ({} if v is None else {"V": np.array([v], dtype=float)})
    return Schedule(rates=rates, actions=np.array([actions]), **settings)


def test_a_table_becomes_windows() -> None:
    schedule = Schedule(
        rates={"Q": np.array([[0.3, 0, 0.6, 0.2, 0.6, 0, 0, 0], [0] * 8]), "V": np.array([[0] * 8] * 2)},
        actions=np.array([[0, 1, 2, 0, 2, 3, 1, 3], [1, 3, 0, 0, 0, 1, 0, 0]]),
    )
    windows = schedule.windows()
    assert isinstance(windows, Windows)
    assert windows.source.tolist() == [[-1, 1, 1, -1, 1, 1, 6, 6], [0, 0, -1, -1, -1, 5, -1, -1]]
    assert windows.until[0, [1, 6]].tolist() == [5, 7]
    assert windows.until[1, [0, 5]].tolist() == [1, 5]
    assert np.argwhere(windows.memory).tolist() == [[0, 1]]
    assert np.argwhere(windows.broadcast).tolist() == [[0, 1], [0, 6], [1, 0]]
    assert windows.rates["Q"][0, 1] == 0.6
    assert schedule.actions is not None
    assert not schedule.actions.flags.writeable
    assert [Action(a).name for a in schedule.actions[0, :4]] == ["REDUCE", "REFRESH", "MEMORY", "REDUCE"]


@pytest.mark.parametrize(
    ("actions", "q", "v", "message"),
    [
        ([1, 2, 2], [0, 0.5], None, r"Actions have shape \(1, 3\), but the rates \(1, 2\)"),
        ([1, 4], [0, 0.5], None, "integers 0 to 3"),
        ([1, -1], [0, 0.5], None, "integers 0 to 3"),
        ([1.0, 2.0], [0, 0.5], None, "integers 0 to 3"),
        ([2, 1], [0.5, 0], None, "Block 0 is to restore with memory at step 0 with no refresh"),
        ([0, 3, 1], [0, 0, 0], None, "Block 0 is to broadcast at step 1 with no refresh"),
        ([1, 2], [0.5, 0.5], None, "Block 0 at step 0 refreshes, which is done in full, but has a rate"),
        ([1, 3], [0, 0], [0, 0.2], "Block 0 at step 1 broadcasts, which computes nothing, but has a rate"),
        ([1, 2], [0, 0], [0, 0], "Block 0 at step 1 restores with memory but has no rate"),
        ([1, 2, 2], [0, 0.5, 0.6], None, "at Q rates 0.5 and 0.6 after the same refresh at step 0"),
        ([1, 2, 3, 2], [0, 0.5, 0, 0.5], [0, 0.1, 0, 0], "at V rates 0.1 and 0 after the same refresh at step 0"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(actions: Any, q: Any, v: Any, message: str) -> None:
    with pytest.raises(ScheduleError, match=message) as caught:
        one_block(actions, q, v)
    assert str(caught.value).count(". ") == 0


def test_h_is_not_combined_with_actions() -> None:
    with pytest.raises(ScheduleError, match="H, which cannot be combined with actions"):
        Schedule(rates={"H": np.array([[0.1, 0.0]])}, actions=np.array([[0, 1]]))
    Schedule(rates={"H": np.zeros((1, 2)), "Q": np.array([[0, 0.5]])}, actions=np.array([[1, 2]]))


def test_actions_decide_the_hash_and_their_absence_leaves_no_trace() -> None:
    plain = one_block([0, 0], [0, 0.5])
    assert plain.actions is None
    assert plain.windows() is None
    # As computed before there were actions.
    known = "28f0159b"
    bare = Schedule(rates={"Q": np.array([[0.0, 0.5]])})
    assert plain.content_hash() == bare.content_hash()
    assert bare.content_hash().startswith(known)
    memory, other = one_block([1, 2], [0, 0.5]), one_block([1, 3], [0, 0])
    assert len({s.content_hash() for s in (plain, memory, other, one_block([1, 0], [0, 0]))}) == 4
    assert replace(memory, seed=1).actions is not None


def test_attention_cost_counts_what_is_computed() -> None:
    assert one_block([1, 2, 3, 1], [0, 0.6, 0, 0]).attention_of_steps() == pytest.approx([1, 0.4, 0, 1])
    # What a reduction of V gets wrong takes a second attention.
    costs = one_block([1, 2, 0, 1], [0, 0.5, 0.5, 0], [0, 0.5, 0, 0]).attention_of_steps()
    assert costs == pytest.approx([1.25, 0.25, 0.5, 1])


def test_what_broadcasts_and_what_is_planned_is_counted() -> None:
    schedule = Schedule(
        rates={"Q": np.array([[0, 0.6, 0, 0.6], [0, 0, 0, 0.2]]), "V": np.array([[0, 0.5, 0, 0.5], [0, 0, 0, 0]])},
        actions=np.array([[1, 2, 3, 2], [1, 3, 3, 0]]),
    )
    assert schedule.broadcast_of_steps().tolist() == [0, 0.5, 1, 0]
    assert schedule.planned_sites() == 3 + 2 + 3  # Q, V, and broadcasting
    copying = replace(schedule, actions=None)
    assert copying.broadcast_of_steps().tolist() == [0] * 4
    assert copying.planned_sites() == 3 + 2


def test_a_feature_is_matched_where_a_window_first_reduces_it() -> None:
    rates = {"Q": np.array([[0, 0.5, 0.5, 0.5, 0, 0, 0, 0.2]]), "V": np.array([[0.1] * 8])}
    schedule = Schedule(rates, cache_step=3)
    assert schedule.copied_matchings().tolist() == [[1, 1, 0, 2, 0, 0, 1, 1]]
    assert schedule.matchings_of_steps().tolist() == [1, 1, 0, 2, 0, 0, 1, 1]


def test_memory_matches_at_its_refreshes_and_copying_beside_it_in_its_windows() -> None:
    schedule = one_block([1, 2, 2, 1, 3, 0], [0, 0.5, 0.5, 0, 0, 0.5], [0, 0.2, 0.2, 0, 0, 0])
    assert schedule.matchings_of_steps().tolist() == [2, 0, 0, 0, 0, 1]
