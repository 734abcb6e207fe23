"""What is left of a run: its parts, and the range of generations and of time."""

from __future__ import annotations

import io
import math
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tuner.models import find_model
from tuner.outlook import Outlook, Part
from tuner.parts import parts_of
from tuner.report.console import LiveProgress

PARTS = (
    Part("preflight", ("preflight",)),
    Part("profile", ("profile",), 2.0),
    Part("search and verify", ("search", "verify"), 1.5),
    Part("certify", ("certify",), 6.0),
    Part("1.5x", ("1.5x", "search", "verify", "certify"), 8.0),
)


def test_parts_are_followed_through_rounds_and_further_targets() -> None:
    outlook = Outlook(PARTS)
    seen = []
    for stage in ("load", "preflight", "profile", "search", "verify", "search", "certify", "1.5x", "search", "certify"):
        outlook.enter(stage, 0.0)
        seen.append(outlook.names()[1][0])
    rounds = ["search and verify"] * 3
    assert seen == ["preflight", "preflight", "profile", *rounds, "certify", "1.5x", "1.5x", "1.5x"]
    assert outlook.names() == (["preflight", "profile", "search and verify", "certify"], ["1.5x"], [])


def test_what_is_left_lies_between_all_going_well_and_the_budget() -> None:
    outlook = Outlook(PARTS)
    assert Outlook().left(0, 40) is None
    assert outlook.left(0, 40) == (17.5, 40)
    outlook.enter("preflight", 0.0)
    outlook.enter("profile", 0.5)
    assert outlook.left(1.5, 40) == (16.5, 38.5)  # half of the profile is done
    outlook.enter("search", 3.0)
    assert outlook.left(3.0, 40) == (15.5, 37)
    assert outlook.left(7.5, 40) == (14, 32.5)  # a third finalist: what was expected is used up
    outlook.enter("certify", 7.5)
    assert outlook.left(7.5, 10) == (2.5, 2.5)  # the budget ends it before


@pytest.mark.parametrize(("also", "compare"), [((), False), ((1.5, 1.8), True)])
def test_the_parts_of_the_job_hold_every_stage(also: tuple[float, ...], compare: bool) -> None:
    options = SimpleNamespace(target_speedup=1.25, also=also, compare=compare)
    ctx: Any = SimpleNamespace(options=options, entry=find_model("tiny-cogvideox"))
    parts = parts_of(ctx)
    assert [part.name for part in parts][:5] == ["preflight", "profile", "search and verify", "noise floor", "certify"]
    assert [part.name for part in parts][5:] == [
        *(f"{target:g}x" for target in also),
        *(["compare"] if compare else []),
    ]
    assert parts[2].least == pytest.approx(1.8)
    assert parts[4].least == pytest.approx(4 * 1.8)


def test_progress_shows_all_parts_and_what_is_left_in_all() -> None:
    out = io.StringIO()
    with LiveProgress(Console(file=out, force_terminal=True, width=120)) as progress:
        progress.plan(PARTS)
        progress.stage("profile")
        progress.budget(0, 40, 60.0)
        progress.advance(1, 2)
        progress._live.refresh()
    assert "✓ preflight" in out.getvalue()
    assert "search and verify" in out.getvalue()
    assert "left in this stage, 17:30 to 40:00 in all" in out.getvalue()


def test_money_is_shown_where_a_price_is_given() -> None:
    out = io.StringIO()
    with LiveProgress(Console(file=out, force_terminal=False, width=200), price=3.6) as progress:
        progress.plan([Part("certify", ("certify",), 10.0)])
        progress.budget(0.0, 40.0, 60.0)
        progress.stage("certify")
        progress._printed = -math.inf
        progress.advance(1, 4)
    assert "10:00 to 40:00 in all (0.60 to 2.40)" in out.getvalue()
    assert "0:00 (0.00) certify" in out.getvalue()
