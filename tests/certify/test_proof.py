"""A schedule that held-out prompts show to be too slow, or too fast for its quality, gets one corrected successor."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tuner.certify import proof
from tuner.errors import BudgetExhaustedError

MARGIN = 0.05


def certification(*failed: str, point: float = 1.28, bound: float = 1.26) -> Any:
    return SimpleNamespace(
        failed=lambda: [SimpleNamespace(name=name) for name in failed],
        denoise=SimpleNamespace(point=point, lower_bound_95=bound),
    )


def verification(schedule: str) -> Any:
    return SimpleNamespace(chosen=SimpleNamespace(candidate=SimpleNamespace(schedule=schedule)), margin=MARGIN)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Certifies "first" with the outcome set in `first`, and anything else without a failed gate."""
    made: list[tuple[Any, ...]] = []

    def certify(ctx: Any, schedule: str, attempt: int = 0) -> Any:
        made.append(("certify", schedule, attempt))
        return ctx.first if schedule == "first" else certification()

    def correct(ctx: Any, profiled: Any, before: Any, measured: float, margin: float) -> Any:
        made.append(("correct", measured, round(margin, 4)))
        return verification("second")

    monkeypatch.setattr(proof, "certify", certify)
    monkeypatch.setattr(proof, "correct", correct)
    return made


def context(first: Any, affordable: bool = True) -> Any:
    def reserve(stage: str, ie: float) -> None:
        if not affordable:
            raise BudgetExhaustedError("too little is left")

    return SimpleNamespace(
        first=first, options=SimpleNamespace(target_speedup=1.3), ledger=SimpleNamespace(reserve=reserve)
    )


def test_too_slow_alone_is_corrected_and_certified_with_seeds_of_its_own(calls: list[tuple[Any, ...]]) -> None:
    last, proved = proof.prove(context(certification("speedup")), None, verification("first"))
    assert calls == [("certify", "first", 0), ("correct", 1.28, MARGIN), ("certify", "second", 1)]
    assert last.chosen.candidate.schedule == "second"
    assert not proved.failed()


def test_bad_videos_of_a_schedule_faster_than_asked_for_get_a_slower_one(calls: list[tuple[Any, ...]]) -> None:
    first = certification("video", point=1.3680, bound=1.3411)  # 2 % between them, 3 % above the target
    last, proved = proof.prove(context(first), None, verification("first"))
    assert calls == [("certify", "first", 0), ("correct", 1.368, 0.0301), ("certify", "second", 1)]
    assert last.chosen.candidate.schedule == "second"
    assert not proved.failed()


def test_bad_videos_close_to_the_target_are_final(calls: list[tuple[Any, ...]]) -> None:
    first = certification("video", point=1.34, bound=1.32)
    assert proof.prove(context(first), None, verification("first"))[1] is first
    assert calls == [("certify", "first", 0)]


@pytest.mark.parametrize("failed", [(), ("video",), ("speedup", "video"), ("speedup", "noise")])
def test_anything_else_is_final(calls: list[tuple[Any, ...]], failed: tuple[str, ...]) -> None:
    first = certification(*failed)
    assert proof.prove(context(first), None, verification("first"))[1] is first
    assert calls == [("certify", "first", 0)]


def test_without_budget_the_first_verdict_stands(calls: list[tuple[Any, ...]]) -> None:
    first = certification("speedup")
    assert proof.prove(context(first, affordable=False), None, verification("first"))[1] is first
    assert calls == [("certify", "first", 0)]
