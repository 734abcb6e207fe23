from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import optuna
import pytest

from asymrnr.schedule import Schedule
from tuner.errors import InfeasibleError, UsageError
from tuner.latency.model import Coefficients, LatencyModel
from tuner.latency.sites import SiteLatency
from tuner.profile.profile import Profile
from tuner.search.feasibility import best_attainable, best_attainable_by_stride
from tuner.search.result import SearchResult
from tuner.search.space import SearchSpace, error_models
from tuner.search.study import search
from tuner.search.targets import solve_targets
from tuner.search.threshold import constant_in_windows, rule_from, rule_parameters, scale_to_target

TARGET, MARGIN = 1.3, 0.03
Run = Callable[..., SearchResult]


@pytest.fixture
def run(profile: Profile, model: LatencyModel, space: SearchSpace) -> Run:
    def run(**changes: object) -> SearchResult:
        values = {"target_speedup": TARGET, "margin": MARGIN, "trials": 45, "seed": 0, **changes}
        return search(profile, model, space, **values)  # type: ignore[arg-type]

    return run


def test_candidates_meet_the_target_differ_and_come_best_first(
    run: Run, profile: Profile, model: LatencyModel, space: SearchSpace
) -> None:
    result = run()
    found = result.candidates
    assert [c.excess for c in found] == sorted(c.excess for c in found)
    assert [c.schedule.form for c in found].count("threshold") == 1
    assert len(found) == 4
    assert len({c.schedule.content_hash() for c in found}) == 4
    yardstick = error_models(profile, space)[0]
    for candidate in found:
        schedule = candidate.schedule
        assert candidate.predicted_speedup == pytest.approx(model.speedup(schedule))
        assert candidate.predicted_speedup >= TARGET * (1 + MARGIN) * (1 - 1e-5)
        assert candidate.predicted_error == pytest.approx(yardstick.predict(schedule))
        assert candidate.bound == result.bound <= candidate.predicted_error
        assert 0 <= candidate.gap < 1
        assert schedule.seed == profile.schedule_seed
        np.testing.assert_allclose(schedule.timesteps, profile.timesteps)
    assert found[0].schedule.form == "table"
    assert found[0].gap < 0.05


def test_the_history_holds_every_trial_and_most_are_feasible(run: Run) -> None:
    told: list[tuple[int, int, float | None]] = []
    result = run(progress=lambda *values: told.append(values))
    assert [record.trial for record in result.history] == list(range(45))
    assert [done for done, _, _ in told] == list(range(1, 46))
    goal = TARGET * (1 + MARGIN) * (1 - 1e-5)
    feasible = [record for record in result.history if record.speedup >= goal]
    assert len(feasible) >= 0.8 * 45
    best = np.minimum.accumulate([r.error if r.speedup >= goal else np.inf for r in result.history])
    np.testing.assert_allclose([r.best for r in result.history], np.where(np.isinf(best), np.nan, best))
    assert told[-1][2] == result.candidates[0].predicted_error
    assert {record.form for record in result.history} == {"table", "threshold"}


def test_the_same_seed_gives_the_same_result_and_optuna_keeps_its_log_level(run: Run) -> None:
    level = optuna.logging.get_verbosity()
    first, second, other = run(), run(), run(seed=1)
    assert first.history == second.history != other.history
    assert [c.schedule.content_hash() for c in first.candidates] == [
        c.schedule.content_hash() for c in second.candidates
    ]
    assert optuna.logging.get_verbosity() == level


def test_the_price_of_interpretability_compares_the_best_of_both_forms(run: Run) -> None:
    result = run()
    goal = TARGET * (1 + MARGIN) * (1 - 1e-5)
    best = {
        form: min(r.error for r in result.history if r.form == form and r.speedup >= goal)
        for form in ("threshold", "table")
    }
    assert result.price_of_interpretability == pytest.approx(best["threshold"] / best["table"])
    assert result.price_of_interpretability > 1


def test_threshold_rates_do_not_change_inside_a_window(run: Run) -> None:
    schedule = next(c.schedule for c in run().candidates if c.schedule.form == "threshold")
    for table in schedule.rates.values():
        np.testing.assert_array_equal(table, constant_in_windows(table, schedule.cache_step))
    assert schedule.thresholds


def test_the_frontier_bounds_every_trial(run: Run) -> None:
    result = run()
    speedups, errors = zip(*result.frontier, strict=True)
    assert list(speedups) == sorted(speedups)
    assert list(errors) == sorted(errors)
    assert speedups[0] == pytest.approx(1.0)
    assert speedups[-1] == pytest.approx(result.best_attainable)
    assert all(point.error >= result.bound for point in result.threshold_points)


def test_out_of_reach_is_said_before_any_trial(
    run: Run, profile: Profile, model: LatencyModel, space: SearchSpace
) -> None:
    best = best_attainable(profile, model, space)
    assert best == pytest.approx(max(best_attainable_by_stride(model, space).values()))
    with pytest.raises(InfeasibleError, match=f"{best:.2f}x"):
        run(target_speedup=best + 0.01)
    close = run(target_speedup=best * 0.999, trials=12)  # the margin does not fit any more
    assert close.candidates[0].predicted_speedup == pytest.approx(best, rel=1e-4)


def test_the_best_attainable_is_what_the_highest_rates_give(
    profile: Profile, model: LatencyModel, space: SearchSpace
) -> None:
    rates = {"Q": np.full((3, 12), 0.875), "V": np.full((3, 12), 0.875)}
    everywhere = Schedule(rates, stride=(2, 2, 2), cache_step=5)
    assert best_attainable_by_stride(model, space)["2x2x2"] == pytest.approx(model.speedup(everywhere))
    profile.q_error["2x2x2", 5][..., -1] = np.inf  # as if not reachable at some site
    assert best_attainable(profile, model, space) < model.speedup(everywhere)


def test_the_search_uses_the_coefficients_of_the_model(
    profile: Profile, model: LatencyModel, space: SearchSpace
) -> None:
    dear = replace(model, coefficients=Coefficients(attention=0.9, gathering=2.0, matching=3.0))
    assert best_attainable(profile, dear, space) < best_attainable(profile, model, space)
    solved = solve_targets(profile, dear, space, [1.2])[0]
    assert solved is not None
    for found in (solved, *search(profile, dear, space, 1.2, trials=12).candidates):
        assert dear.speedup(found.schedule) == pytest.approx(found.predicted_speedup)
        assert dear.speedup(found.schedule) >= 1.2 * (1 - 1e-6)


def test_many_targets_from_one_profile(profile: Profile, model: LatencyModel, space: SearchSpace, run: Run) -> None:
    found = solve_targets(profile, model, space, [1.1, 1.3 * 1.03, 50.0])
    assert found[2] is None
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].predicted_error < found[1].predicted_error
    assert found[0].predicted_speedup >= 1.1 - 1e-9
    assert found[1].predicted_error == pytest.approx(run().candidates[0].predicted_error)


@pytest.mark.parametrize("rule", [{}, {0.5: 0.7}, {0.6: 0.4, 0.7: 0.8}, {0.0: 0.1}, {0.7: 0.3, 0.9: 0.4}])
def test_rules_and_trial_parameters_are_inverse(rule: dict[float, float]) -> None:
    found = rule_from(**rule_parameters(rule, 10), tiers=10)
    assert list(found) == pytest.approx(list(rule))
    assert list(found.values()) == pytest.approx(list(rule.values()))


def test_scaling_meets_the_target_from_above_and_saturates(profile: Profile, model: LatencyModel) -> None:
    settings = {"stride": (2, 2, 2), "cache_step": 5}
    rules = {"Q": {0.3: 0.2, 0.6: 0.4}, "V": {0.4: 0.1}}
    schedule = scale_to_target(rules, profile.similarity, model, 1.2, 0.875, **settings)
    assert 1.2 <= model.speedup(schedule) < 1.2001
    low, high = schedule.thresholds["Q"][0.3], schedule.thresholds["Q"][0.6]
    assert high == pytest.approx(2 * low)
    hopeless = scale_to_target({"Q": {1.0: 0.1}, "V": {}}, profile.similarity, model, 2.0, 0.875, **settings)
    assert model.speedup(hopeless) < 2.0
    assert hopeless.thresholds["Q"][1.0] == pytest.approx(0.875)


def test_a_space_that_was_not_profiled_and_other_shapes_are_refused(
    profile: Profile, model: LatencyModel, space: SearchSpace
) -> None:
    with pytest.raises(UsageError, match="profiled"):
        search(profile, model, space.model_copy(update={"cache_steps": (7,)}), TARGET)
    with pytest.raises(UsageError, match="blocks or steps"):
        search(profile, LatencyModel(SiteLatency(model.sites.surfaces, (0,) * 4), 12, 1.0), space, TARGET)
    with pytest.raises(UsageError, match="3 trials"):
        search(profile, model, space, TARGET, trials=2)
