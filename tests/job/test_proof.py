"""A schedule that held-out prompts show to be just too slow gets one corrected successor, and nothing else does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tuner.errors import BudgetExhaustedError
from tuner.job import proof


def certification(*failed: str) -> Any:
    return SimpleNamespace(
        failed=lambda: [SimpleNamespace(name=name) for name in failed], denoise=SimpleNamespace(point=1.28)
    )


def verification(schedule: str) -> Any:
    return SimpleNamespace(chosen=SimpleNamespace(candidate=SimpleNamespace(schedule=schedule)))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Certifies "first" with the outcome set in `first`, and anything else without a failed gate."""
    made: list[tuple[Any, ...]] = []

    def certify(ctx: Any, schedule: str, attempt: int = 0) -> Any:
        made.append(("certify", schedule, attempt))
        return ctx.first if schedule == "first" else certification()

    def correct(ctx: Any, profiled: Any, before: Any, measured: float) -> Any:
        made.append(("correct", measured))
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
    assert calls == [("certify", "first", 0), ("correct", 1.28), ("certify", "second", 1)]
    assert last.chosen.candidate.schedule == "second"
    assert not proved.failed()


@pytest.mark.parametrize("failed", [(), ("video",), ("speedup", "video"), ("speedup", "noise")])
def test_anything_else_is_final(calls: list[tuple[Any, ...]], failed: tuple[str, ...]) -> None:
    first = certification(*failed)
    assert proof.prove(context(first), None, verification("first"))[1] is first
    assert calls == [("certify", "first", 0)]


def test_without_budget_the_first_verdict_stands(calls: list[tuple[Any, ...]]) -> None:
    first = certification("speedup")
    assert proof.prove(context(first, affordable=False), None, verification("first"))[1] is first
    assert calls == [("certify", "first", 0)]
