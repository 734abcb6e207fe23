"""What a search makes of errors with memory: kinds beside those that copy, made again, and recorded."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import astuple, replace

import pytest

from tests.search.conftest import GAPS
from tuner.errors import InfeasibleError
from tuner.latency.model import Coefficients, LatencyModel
from tuner.profile.profile import Profile
from tuner.search.copying import CopySearch
from tuner.search.feasibility import best_attainable
from tuner.search.memory import KINDS, MemorySolver
from tuner.search.record import from_record, to_record
from tuner.search.space import SearchSpace
from tuner.search.study import rebuild, search


def first_steps(profile: Profile, model: LatencyModel, steps: int) -> tuple[Profile, LatencyModel]:
    """The beginning of a generation, as if it was all of it."""
    model, gaps = replace(model, steps=steps), min(GAPS, steps - 1)
    return (
        replace(
            profile,
            latency=model,
            timesteps=profile.timesteps[:steps],
            similarity={name: table[:, :steps] for name, table in profile.similarity.items()},
            q_error={key: curve[:, :steps] for key, curve in profile.q_error.items()},
            v_error={key: curve[:, :steps] for key, curve in profile.v_error.items()},
            memory_error={key: error[:, :steps, :gaps] for key, error in profile.memory_error.items()},
            broadcast_error={key: error[:, :steps, :gaps] for key, error in profile.broadcast_error.items()},
        ),
        model,
    )


def test_a_search_puts_one_of_every_kind_first(remembering: Profile, whole: LatencyModel, space: SearchSpace) -> None:
    found = search(remembering, whole, space, 1.3, trials=12)
    own = [c for c in found.candidates if c.recipe.form == "windows"]
    copying = found.candidates[len(own) :]
    assert [c.kind for c in own] == [kind for kind in KINDS.values() if kind in {c.kind for c in own}]
    assert {"refreshes", "windows"} <= {c.recipe.sharing for c in own}
    assert {c.recipe.form for c in copying} == {"table", "threshold"}
    assert len({c.kind for c in found.candidates}) == len(found.candidates)
    assert len({c.schedule.content_hash() for c in found.candidates}) == len(found.candidates)
    for candidate in found.candidates:
        assert whole.speedup(candidate.schedule) >= 1.3 * (1 - 1e-6)
    solver = MemorySolver(remembering, whole, space)
    assert found.memory_frontier == solver.frontier()
    assert found.best_attainable == pytest.approx(solver.attainable)
    # What copies is what it is without.
    plain = search(replace(remembering, memory_error={}, broadcast_error={}), whole, space, 1.3, trials=12)
    assert plain.memory_frontier == []
    assert plain.best_attainable == pytest.approx(best_attainable(remembering, whole, space))
    assert (plain.bound, plain.history, plain.frontier) == (found.bound, found.history, found.frontier)
    assert [astuple(c)[1:8] for c in plain.candidates] == [astuple(c)[1:8] for c in copying]


def test_a_search_beyond_copying_aims_copying_at_its_own_best(
    remembering: Profile, whole: LatencyModel, space: SearchSpace
) -> None:
    copying = best_attainable(remembering, whole, space)
    found = search(remembering, whole, space, copying * 1.2, trials=12)
    for candidate in found.candidates:
        aim = copying * (1.2 if candidate.recipe.form == "windows" else 1)
        assert candidate.predicted_speedup >= aim * (1 - 1e-3)
    best = MemorySolver(remembering, whole, space).attainable
    with pytest.raises(InfeasibleError, match=f"{best:.2f}x; ask for less"):
        search(remembering, whole, space, best * 1.01, trials=12)
    fastest = search(remembering, whole, space, best * 1.01, trials=12, or_fastest=True)
    assert fastest.candidates[0].predicted_speedup == pytest.approx(best, rel=1e-5)


def test_a_kind_is_rebuilt_for_another_speed(remembering: Profile, whole: LatencyModel, space: SearchSpace) -> None:
    for candidate in MemorySolver(remembering, whole, space).candidates(1.5):
        for target in (1.25, 1.8):
            found = rebuild(candidate.recipe, remembering, whole, space, target)
            assert (found.kind, found.recipe) == (candidate.kind, candidate.recipe)
            assert found.predicted_speedup >= target * (1 - 1e-9)
            assert (found.predicted_error < candidate.predicted_error) == (target < 1.5)
        slower = rebuild(
            candidate.recipe, remembering, whole, space, 0.97
        )  # it was measured to be faster than predicted
        assert slower.predicted_speedup >= 0.97
        assert 0 <= slower.bound <= slower.predicted_error < candidate.predicted_error


def test_a_recorded_search_is_the_search(remembering: Profile, whole: LatencyModel, space: SearchSpace) -> None:
    result = search(remembering, whole, space, 1.3, trials=12)
    record = json.loads(json.dumps(to_record(result), allow_nan=False))
    again = from_record(record)
    assert replace(again, candidates=[], history=[]) == replace(result, candidates=[], history=[])
    for one, other in zip(again.candidates, result.candidates, strict=True):
        assert one.schedule.content_hash() == other.schedule.content_hash()
        assert one.recipe == other.recipe
        assert astuple(one)[1:8] == astuple(other)[1:8]
    made = rebuild(again.candidates[1].recipe, remembering, whole, space, 1.4)
    assert made.recipe.sharing == again.candidates[1].recipe.sharing != "refreshes"
    del record["memory_frontier"]  # as of an earlier release
    for candidate in record["candidates"]:
        del candidate["recipe"]["sharing"]
    old = from_record(record)
    assert old.memory_frontier == []
    assert {c.recipe.sharing for c in old.candidates} == {"refreshes"}


def test_what_copies_is_not_searched_again_where_others_do(
    remembering: Profile, whole: LatencyModel, space: SearchSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = search(remembering, whole, space, 1.3, trials=12)
    later = search(remembering, whole, space, 1.5, trials=12)
    trials: list[int] = []
    monkeypatch.setattr(CopySearch, "run_all", lambda self, number, *_: trials.append(number))
    again = search(remembering, whole, space, 1.5, trials=12, copied=first)
    assert not trials
    assert again.history == first.history
    assert again.best_attainable == later.best_attainable
    assert again.memory_frontier == later.memory_frontier
    remembered = [c for c in later.candidates if c.recipe.form == "windows"]
    assert [c.schedule.content_hash() for c in again.candidates] == [c.schedule.content_hash() for c in remembered]
    plain = replace(remembering, memory_error={}, broadcast_error={})
    with suppress(InfeasibleError):
        search(plain, whole, space, 1.3, trials=12, copied=first)
    assert trials == [12]  # nothing else does


@pytest.mark.parametrize("steps", [2, 3])
def test_few_steps_are_enough(remembering: Profile, whole: LatencyModel, space: SearchSpace, steps: int) -> None:
    profile, model = first_steps(remembering, whole, steps)
    result = search(profile, model, space.for_steps(steps).model_copy(update={"cache_steps": (2,)}), 1.2, trials=12)
    for candidate in result.candidates:
        assert model.speedup(candidate.schedule) >= 1.2 * (1 - 1e-6)
    assert result.candidates[0].recipe.form == "windows"
    assert len(result.memory_frontier) > 1


def test_memory_that_saves_nothing_leaves_the_field_to_copying(
    remembering: Profile, whole: LatencyModel, space: SearchSpace
) -> None:
    idle = replace(whole, coefficients=Coefficients(attention=0.0, gathering=1.0, matching=1.0, projection=0.0))
    solver = MemorySolver(remembering, idle, space)
    assert solver.attainable == pytest.approx(1.0)
    assert {round(c.predicted_speedup, 6) for c in solver.candidates(1.5)} == {1.0}
    assert [point.error for point in solver.frontier()] == [0.0]
    with pytest.raises(InfeasibleError):
        search(remembering, idle, space, 1.1, trials=12, or_fastest=True)


def test_a_window_that_is_not_fast_enough_gives_way_to_one_that_is(
    remembering: Profile, whole: LatencyModel, space: SearchSpace
) -> None:
    solver = MemorySolver(remembering, whole, space)
    slowest = solver.candidate("windows", 1.1)
    wanted = solver.attainable * 0.98
    assert solver.speedup(solver.plan("windows", wanted, slowest.recipe.window)) < wanted
    again = rebuild(slowest.recipe, remembering, whole, space, wanted)
    assert again.predicted_speedup >= wanted * (1 - 1e-6)
    assert again.kind == slowest.kind
    assert again.recipe.window != slowest.recipe.window


def test_solved_again_for_another_speed_the_window_stays_the_same(
    remembering: Profile, whole: LatencyModel, space: SearchSpace
) -> None:
    solver = MemorySolver(remembering, whole, space)
    found = solver.candidate("windows", 1.3)
    window = found.recipe.window
    assert window is not None
    for speedup in (1.2, 1.35):
        again = rebuild(found.recipe, remembering, whole, space, speedup)
        assert again.recipe == found.recipe
        table = again.schedule.actions
        assert table is not None
        longest = max(len(run) for row in table for run in "".join("x" if a >= 2 else " " for a in row).split())
        assert longest <= window.gap


def test_where_copying_does_not_pay_broadcasting_is_found_alone(
    remembering: Profile, whole: LatencyModel, space: SearchSpace
) -> None:
    dear = replace(whole, coefficients=replace(whole.coefficients, gathering=1e3, matching=1e3))
    assert best_attainable(remembering, dear, space) == pytest.approx(1.0)
    result = search(remembering, dear, space, 1.3, trials=12)
    assert {c.recipe.form for c in result.candidates} == {"windows"}
    assert all(c.predicted_speedup == pytest.approx(1.3, rel=0.1) for c in result.candidates)
    assert (result.history, result.price_of_interpretability) == ([], None)
    assert from_record(json.loads(json.dumps(to_record(result)))).candidates[0].kind == result.candidates[0].kind
