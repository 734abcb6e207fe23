from __future__ import annotations

import pytest

from tuner.errors import BudgetExhaustedError, TunerError, UsageError
from tuner.run.ledger import Ledger


def test_check_refuses_before_the_work_and_spends_nothing() -> None:
    ledger = Ledger(2.0, unit_seconds=10.0)
    ledger.charge("profile", 15.0)
    with pytest.raises(BudgetExhaustedError, match=r"'verify' needs 1\.00 generations, but only 0\.50 of the budget"):
        ledger.check(1.0, "verify")
    assert ledger.spent_ie == pytest.approx(1.5)
    ledger.check(0.5, "verify")


def test_seconds_charged_before_the_unit_is_known_count_afterwards() -> None:
    ledger = Ledger(10.0)
    ledger.charge("preflight", 3.0)
    assert ledger.spent_ie == 0.0
    assert ledger.rows() == [{"stage": "preflight", "seconds": 3.0, "ie": None, "charges": 1}]
    ledger.unit_seconds = 12.0
    assert ledger.spent_ie == pytest.approx(0.25)
    assert ledger.remaining_ie == pytest.approx(9.75)
    assert ledger.rows()[0]["ie"] == pytest.approx(0.25)


def test_a_reservation_is_kept_from_others_used_up_by_its_stage_and_given_back() -> None:
    ledger = Ledger(10.0, unit_seconds=1.0)
    ledger.reserve("certify", 4.0)
    assert ledger.remaining_ie == pytest.approx(6.0)
    with pytest.raises(BudgetExhaustedError, match=r"4\.00 reserved"):
        ledger.check(6.5, "verify")
    ledger.check(10.0, "certify")
    ledger.charge("certify", 3.0)
    assert ledger.reserved_ie == pytest.approx(1.0)
    assert ledger.remaining_ie == pytest.approx(6.0)
    ledger.charge("certify", 2.0)  # beyond its reservation
    assert ledger.reserved_ie == 0.0
    assert ledger.remaining_ie == pytest.approx(5.0)
    ledger.reserve("certify", 2.0)  # what was charged before does not use up a new reservation
    assert ledger.reserved_ie == pytest.approx(2.0)
    ledger.release("certify")
    ledger.release("never reserved")
    assert ledger.remaining_ie == pytest.approx(5.0)


def test_rows_are_in_the_order_in_which_stages_began() -> None:
    ledger = Ledger(10.0, unit_seconds=1.0)
    ledger.charge("preflight", 1.0)
    ledger.reserve("certify", 4.0)
    ledger.charge("profile", 2.0)
    ledger.charge("certify", 3.0)
    ledger.charge("profile", 0.5)
    assert [row["stage"] for row in ledger.rows()] == ["preflight", "profile", "certify"]
    assert ledger.reserved_ie == pytest.approx(1.0)


def test_reserving_more_than_is_left_is_refused_and_keeps_the_earlier_reservation() -> None:
    ledger = Ledger(3.0, unit_seconds=1.0)
    ledger.reserve("certify", 2.0)
    with pytest.raises(BudgetExhaustedError):
        ledger.reserve("verify", 1.5)
    ledger.reserve("certify", 3.0)
    assert ledger.reserved_ie == pytest.approx(3.0)


def test_an_overrun_is_recorded_and_stops_everything_after_it() -> None:
    ledger = Ledger(1.0, unit_seconds=1.0)
    ledger.charge("profile", 1.25)
    assert ledger.remaining_ie == pytest.approx(-0.25)
    with pytest.raises(BudgetExhaustedError, match=r"only 0\.00"):
        ledger.check(0.01, "verify")


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_meaningless_amounts_are_refused(value: float) -> None:
    with pytest.raises(UsageError):
        Ledger(value)
    ledger = Ledger(1.0)
    with pytest.raises(UsageError):
        ledger.unit_seconds = value
    with pytest.raises(UsageError):
        ledger.reserve("certify", value)
    if value != 0.0:
        with pytest.raises(UsageError):
            ledger.charge("profile", value)


def test_every_exit_code_is_used_once() -> None:
    codes = {error.exit_code for error in TunerError.__subclasses__() if error.__module__ == "tuner.errors"}
    assert codes == {2, 3, 4, 5, 6, 7, 8, 9}
    assert TunerError.exit_code == 1
