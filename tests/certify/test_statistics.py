"""The bounds cover the truth as often as they say, on machines that drift, jitter and are disturbed."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from scipy.special import stdtrit

from tests.certify.machine import ATTENTION, FALL, QUIET, Machine, simulate
from tuner.certify.gates import speedup_gate
from tuner.certify.statistics import CONFIDENCE, LOOKS, alpha_at, estimate_speedup, mean_bounds
from tuner.run.estimate import INFLUENCE, LEAST_SPREAD, PairedSteps, PairEstimate, estimate_pair, relative_mad

TRUTH = 1.3
POOL = 1500  # pairs simulated on each machine
SEQUENCES = 4000  # certifications, each of which draws its pairs from the pool

MACHINES = {
    "quiet": QUIET,
    "noise": Machine(),
    "more noise": Machine(noise=0.07),
    "drift over 5 s": Machine(drift=0.1, memory=5),
    "drift over 20 s": Machine(drift=0.1, memory=20),
    "drift over 60 s": Machine(drift=0.1, memory=60),
    "drift within a step": Machine(drift=0.2, memory=5, step=1.0),
    "bursts over many steps": Machine(bursts=0.3),
    "bursts within a step": Machine(bursts=0.3, step=1.0),
    "drift and bursts": Machine(drift=0.1, memory=5, bursts=0.3, step=0.7),
}
every_machine = pytest.mark.parametrize("name", MACHINES)


@cache
def estimates(name: str) -> list[PairEstimate]:
    return [estimate_pair(pair) for pair in simulate(np.random.default_rng(0), MACHINES[name], POOL, TRUTH)]


def log_speedups(name: str) -> np.ndarray:
    return np.array([estimate.log_speedup for estimate in estimates(name)])


def sequences(name: str) -> np.ndarray:
    """(SEQUENCES, 12) log speed-ups of pairs."""
    return np.random.default_rng(1).choice(log_speedups(name), (SEQUENCES, LOOKS[-1].pairs))


@every_machine
def test_the_lower_bound_covers_the_truth_at_every_number_of_pairs(name: str) -> None:
    drawn = sequences(name)
    for pairs, alpha in [(2, 0.05), (3, 0.05), *((look.pairs, look.alpha) for look in LOOKS)]:
        bounds = [estimate_speedup(values[:pairs], alpha).lower_bound_95 for values in drawn]
        assert np.mean(np.array(bounds) <= TRUTH) >= 1 - alpha - 0.01, pairs


@every_machine
@pytest.mark.parametrize("target", [TRUTH, TRUTH * 1.02])
def test_the_lower_bound_at_which_a_certification_stops_covers_the_truth(name: str, target: float) -> None:
    covered = 0
    for values in sequences(name):
        for look in LOOKS:
            estimate = estimate_speedup(values[: look.pairs], look.alpha)
            if not speedup_gate(estimate, target).open:
                break
        assert estimate.lower_bound_95 is not None
        covered += estimate.lower_bound_95 <= TRUTH
    assert covered / SEQUENCES >= 0.94


def passes(name: str, target: float) -> float:
    """Share of certifications that pass the speed-up gate at the first look that decides."""
    passed = 0
    for values in sequences(name):
        for look in LOOKS:
            gate = speedup_gate(estimate_speedup(values[: look.pairs], look.alpha), target)
            if not gate.open:
                break
        passed += gate.verdict == "PASS"
    return passed / SEQUENCES


@every_machine
def test_a_schedule_2_percent_too_slow_rarely_passes(name: str) -> None:
    assert passes(name, TRUTH / 0.98) <= 0.05


@pytest.mark.parametrize(("name", "power"), [("quiet", 0.99), ("noise", 0.8)])
def test_a_schedule_4_percent_faster_than_needed_mostly_passes(name: str, power: float) -> None:
    assert passes(name, TRUTH / 1.04) >= power


@pytest.mark.parametrize("name", ["bursts over many steps", "bursts within a step", "drift and bursts"])
def test_bursts_of_other_work_do_not_move_the_estimate(name: str) -> None:
    assert log_speedups(name).mean() == pytest.approx(log_speedups("quiet").mean(), abs=0.01)
    assert np.mean([estimate.usable for estimate in estimates(name)]) > 0.75


def test_bursts_that_hit_both_sides_hardly_make_pairs_scatter() -> None:
    """Such a step still tells, so that nothing is lost by it."""
    assert log_speedups("bursts over many steps").std() < 1.4 * log_speedups("noise").std()


@pytest.mark.parametrize("name", ["quiet", "noise", "drift over 5 s"])
def test_without_bursts_next_to_nothing_counts_as_disturbed(name: str) -> None:
    assert np.mean([estimate.disturbed / estimate.steps for estimate in estimates(name)]) < 0.01
    assert log_speedups(name).mean() == pytest.approx(math.log(TRUTH), abs=0.0015)


@pytest.mark.parametrize("name", ["noise", "more noise", "drift over 5 s", "bursts over many steps"])
def test_the_scatter_of_steps_foretells_that_of_pairs(name: str) -> None:
    inside = np.sqrt(np.mean([estimate.standard_error**2 for estimate in estimates(name)]))
    assert np.hypot(inside, MACHINES[name].between) == pytest.approx(log_speedups(name).std(), rel=0.15)


@pytest.mark.parametrize(
    "attention",
    [ATTENTION[::10], ATTENTION[::4], np.full(30, 0.5), np.ones(6), np.repeat([1.0, 0.4], [20, 10])],
    ids=["3 steps", "8 steps", "flat", "none", "two levels"],
)
def test_few_steps_and_flat_schedules(attention: np.ndarray) -> None:
    pairs = simulate(np.random.default_rng(2), Machine(), POOL, TRUTH, attention)
    found = [estimate_pair(pair).log_speedup for pair in pairs]
    assert np.mean(found) == pytest.approx(math.log(TRUTH), abs=0.005)
    drawn = np.random.default_rng(3).choice(found, (SEQUENCES, 4))
    bounds = [estimate_speedup(values, 0.025).lower_bound_95 for values in drawn]
    assert np.mean(np.array(bounds) <= TRUTH) >= 0.96


def exact(bend: float = 0.0) -> PairedSteps:
    """A pair without noise; where `bend` is not 0, steps do not save in proportion to attention."""
    saved = FALL * (1 - ATTENTION)
    return PairedSteps(np.ones(30), 1 - saved - bend * saved**2, ATTENTION)


@pytest.mark.parametrize("bend", [0.0, 0.5, -0.5])
def test_without_noise_the_estimate_is_the_ratio_of_total_times(bend: float) -> None:
    pair = exact(bend)
    estimate = estimate_pair(pair)
    assert estimate.speedup == pytest.approx(pair.plain.sum() / pair.tuned.sum(), rel=1e-3 if bend else 1e-9)
    assert (estimate.disturbed, estimate.steps, estimate.usable) == (0, 30, True)


@pytest.mark.parametrize(("plain", "tuned"), [(2.0, 1.0), (1.0, 2.0), (2.0, 2.0)])
def test_a_disturbed_step_is_counted_and_hardly_matters_whichever_side_it_hits(plain: float, tuned: float) -> None:
    pair = exact()
    clean = estimate_pair(pair).log_speedup
    pair.plain[25] *= plain
    pair.tuned[25] *= tuned
    estimate = estimate_pair(pair)
    assert estimate.disturbed == 1
    assert estimate.log_speedup == pytest.approx(clean, abs=INFLUENCE * LEAST_SPREAD / estimate.steps)


def test_a_machine_that_slows_down_evenly_changes_nothing() -> None:
    pair, pace = exact(), np.linspace(1, 3, 30)
    slowed = estimate_pair(PairedSteps(pair.plain * pace, pair.tuned * pace, pair.attention))
    assert slowed.log_speedup == pytest.approx(estimate_pair(pair).log_speedup, abs=1e-9)


def test_swapping_plain_and_tuned_swaps_the_sign() -> None:
    [pair] = simulate(np.random.default_rng(4), Machine(), 1, TRUTH, np.full(30, 0.5))
    swapped = PairedSteps(pair.tuned, pair.plain, pair.attention)
    assert estimate_pair(swapped).log_speedup == pytest.approx(-estimate_pair(pair).log_speedup)


def test_a_pair_with_most_steps_disturbed_is_not_usable() -> None:
    pair = exact()
    pair.tuned[::3] *= 3
    pair.tuned[1::3] /= 3
    assert not estimate_pair(pair).usable


def test_one_step_gives_a_number_without_a_standard_error() -> None:
    estimate = estimate_pair(PairedSteps(np.array([1.3]), np.array([1.0]), np.array([0.5])))
    assert estimate.speedup == pytest.approx(1.3)
    assert estimate.standard_error == math.inf


@pytest.mark.parametrize(
    ("plain", "tuned", "attention"),
    [([], [], []), ([1.0], [1.0, 1.0], [1.0]), ([1.0], [1.0], []), ([0.0], [1.0], [1.0]), ([1.0], [math.nan], [1.0])],
)
def test_steps_that_do_not_pair_are_refused(plain: list[float], tuned: list[float], attention: list[float]) -> None:
    with pytest.raises(ValueError, match="estimate_pair needs"):
        estimate_pair(PairedSteps(np.array(plain), np.array(tuned), np.array(attention)))


def test_the_error_is_spent_over_the_looks() -> None:
    drawn = np.random.default_rng(5).standard_normal((100_000, LOOKS[-1].pairs))
    missed = np.zeros(len(drawn), bool)
    for look in LOOKS:
        seen = drawn[:, : look.pairs]
        margin = stdtrit(look.pairs - 1, 1 - look.alpha) / math.sqrt(look.pairs)
        missed |= seen.mean(1) > margin * seen.std(1, ddof=1)
    assert missed.mean() == pytest.approx(1 - CONFIDENCE, abs=0.002)  # 3 standard errors
    assert [alpha_at(look.pairs) for look in LOOKS] == [look.alpha for look in LOOKS]
    with pytest.raises(ValueError, match="no look after 5 pairs, only after 4, 6, 8, 12"):
        alpha_at(5)


def test_bounds_are_those_of_student() -> None:
    bounds = mean_bounds([1.0, 2.0, 3.0, 4.0], 0.025)
    margin = 3.182446 * np.std([1, 2, 3, 4], ddof=1) / 2  # 97.5 % quantile with three degrees of freedom
    assert (bounds.mean, bounds.count) == (2.5, 4)
    assert (bounds.low, bounds.high) == pytest.approx((2.5 - margin, 2.5 + margin))


def test_a_single_pair_has_a_point_and_no_bounds() -> None:
    estimate = estimate_speedup([math.log(1.3)])
    assert estimate.point == pytest.approx(1.3)
    assert (estimate.lower_bound_95, estimate.upper_bound_95, estimate.spread, estimate.pairs) == (None, None, None, 1)
    with pytest.raises(ValueError, match="at least one"):
        estimate_speedup([])


def test_relative_mad() -> None:
    assert relative_mad(np.array([9.0, 10.0, 11.0, 30.0])) == pytest.approx(1.0 / 10.5)
