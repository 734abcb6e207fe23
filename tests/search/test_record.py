"""A recorded search is the search."""

from __future__ import annotations

import json
from dataclasses import astuple, replace

import numpy as np

from tuner.latency.model import LatencyModel
from tuner.profile.profile import Profile
from tuner.search.record import from_record, to_record
from tuner.search.space import SearchSpace
from tuner.search.study import rebuild, search


def test_it_survives_json_and_makes_the_same_schedules(
    profile: Profile, model: LatencyModel, space: SearchSpace
) -> None:
    result = search(profile, model, space, 1.1, trials=12)
    again = from_record(json.loads(json.dumps(to_record(result), allow_nan=False)))
    np.testing.assert_array_equal(np.array([r[1:3] for r in again.history]), np.array([r[1:3] for r in result.history]))
    assert replace(again, candidates=[], history=[]) == replace(result, candidates=[], history=[])
    assert {c.recipe.form for c in result.candidates} == {"table", "threshold"}
    for one, other in zip(again.candidates, result.candidates, strict=True):
        assert one.schedule.content_hash() == other.schedule.content_hash()
        assert one.recipe == other.recipe
        assert astuple(one)[1:7] == astuple(other)[1:7]
        made = [rebuild(c.recipe, profile, model, space, 1.15).schedule.content_hash() for c in (one, other)]
        assert made[0] == made[1]


def test_a_kind_is_rebuilt_for_another_speed(profile: Profile, model: LatencyModel, space: SearchSpace) -> None:
    for candidate in search(profile, model, space, 1.1, trials=12).candidates:
        for target in (1.05, 1.15):
            found = rebuild(candidate.recipe, profile, model, space, target)
            assert found.kind == candidate.kind
            assert found.predicted_speedup >= target * (1 - 1e-6)
            assert (found.predicted_error < candidate.predicted_error) == (target < 1.1)


def test_a_target_out_of_reach_gives_the_fastest(profile: Profile, model: LatencyModel, space: SearchSpace) -> None:
    result = search(profile, model, space, 90.0, trials=12, or_fastest=True)
    best = max(candidate.predicted_speedup for candidate in result.candidates)
    assert best <= result.best_attainable * (1 + 1e-9)
    assert best >= result.best_attainable * (1 - 1e-3)
