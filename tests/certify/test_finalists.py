"""How far above the target the search goes, and which finalist gets the next generation."""

from __future__ import annotations

import numpy as np

from asymrnr.schedule import Schedule
from tuner.certify.verify import Verified, next_finalist, search_margin
from tuner.search.result import Candidate

ACCEPTED = 1.25


def candidate(kind: str, error: float, rate: float = 0.5) -> Candidate:
    schedule = Schedule(rates={"Q": np.full((2, 4), rate)})
    return Candidate(schedule, 1.0, 1.3, predicted_error=error, bound=error, excess=error, kind=kind, label=kind)


def verified(candidate: Candidate, measured: float, predicted: float = 1.3) -> Verified:
    return Verified(candidate, predicted, measured, mse=1e-3, reduced_sites=8)


def test_the_least_predicted_error_comes_first() -> None:
    first, second = candidate("a", 1.0), candidate("b", 1.1, 0.6)
    assert next_finalist([first, second], [], ACCEPTED) is first


def test_a_finalist_as_fast_as_predicted_makes_way_for_another_kind() -> None:
    first, second = candidate("a", 1.0), candidate("b", 1.1, 0.6)
    corrected = candidate("a", 1.0, 0.4)
    assert next_finalist([corrected, second], [verified(first, 1.31)], ACCEPTED) is second


def test_a_finalist_that_was_too_slow_or_mispredicted_is_corrected_first() -> None:
    first, second = candidate("a", 1.0), candidate("b", 1.1, 0.6)
    corrected = candidate("a", 1.0, 0.4)
    for measured in (1.22, 1.4):  # too slow; more than was asked for, which costs quality
        assert next_finalist([corrected, second], [verified(first, measured)], ACCEPTED) is corrected


def test_kinds_predicted_far_worse_are_given_up() -> None:
    first, hopeless = candidate("a", 1.0), candidate("b", 1.6, 0.6)
    assert next_finalist([first, hopeless], [verified(first, 1.31)], ACCEPTED) is None


def test_the_same_schedule_is_never_measured_twice() -> None:
    first = candidate("a", 1.0)
    assert next_finalist([first], [verified(first, 1.1)], ACCEPTED) is None


def test_a_quiet_machine_is_given_less_margin_than_a_noisy_one() -> None:
    quiet, usual, noisy = (search_margin(scatter) for scatter in (0.0, 0.01, 0.2))
    assert 0 < quiet < usual < noisy == search_margin(1.0)
