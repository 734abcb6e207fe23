"""Further targets: each is proven by itself, and one that fails ends no other; without generations."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from tuner import frontier
from tuner.errors import BudgetExhaustedError, InfeasibleError, QualityGateError
from tuner.findings import Findings
from tuner.frontier import ladder, prove_further

OUT_OF_REACH, REFUSED, UNAFFORDABLE = 3.0, 1.7, 2.0


@pytest.mark.parametrize(
    ("targets", "steps"),
    [
        ([], []),
        ([1.05], []),
        ([1.2], [1.1]),
        ([1.35, 1.8], [1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7]),
        ([1.8, 1.12, 1.48], [1.2, 1.3, 1.4, 1.6, 1.7]),
    ],
)
def test_the_ladder_ends_at_the_fastest_and_spares_what_is_certified(targets: list[float], steps: list[float]) -> None:
    assert ladder(targets) == steps


@dataclass(frozen=True)
class Early:
    model: str


@pytest.fixture
def informed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """With which latency model every target was verified."""
    seen: list[tuple[float, str]] = []

    def verify(ctx: Any, early: Early, *_: Any) -> Any:
        target = ctx.options.target_speedup
        seen.append((target, early.model))
        if target == OUT_OF_REACH:
            raise InfeasibleError("out of reach")
        return SimpleNamespace(model=f"after {target:g}x")

    def prove(ctx: Any, found: Findings, keep: Any) -> None:
        target = ctx.options.target_speedup
        if target == UNAFFORDABLE:
            raise BudgetExhaustedError("no budget")
        found.certification = SimpleNamespace(certified=target != REFUSED)  # type: ignore[assignment]

    monkeypatch.setattr(frontier, "verify", verify)
    monkeypatch.setattr(frontier, "prove", prove)
    monkeypatch.setattr(frontier, "verdict_error", lambda _: QualityGateError("too different"))
    return seen


def test_every_target_is_proven_with_what_the_others_measured(informed: list[tuple[float, str]]) -> None:
    options = SimpleNamespace(target_speedup=1.2, also=(1.4, OUT_OF_REACH, REFUSED, UNAFFORDABLE, 1.5))
    ledger = SimpleNamespace(release=lambda _: None, reserve=lambda *_: None)

    def context(target: float) -> Any:
        own = SimpleNamespace(target_speedup=target, also=())
        return SimpleNamespace(options=own, ledger=ledger)

    ctx: Any = SimpleNamespace(
        options=options, ledger=ledger, at=context, progress=SimpleNamespace(stage=lambda *_: None)
    )
    first = SimpleNamespace(model="after 1.2x")
    certified: Any = SimpleNamespace(certified=True)
    early: Any = Early("before")
    profiled: Any = object()
    findings = Findings(early, profiled, first, certification=certified)  # type: ignore[arg-type]
    kept: list[int] = []
    prove_further(ctx, findings, lambda: kept.append(len(findings.further)))
    assert kept == [1, 5]
    assert informed == [
        (1.4, "after 1.2x"),
        (OUT_OF_REACH, "after 1.4x"),
        (REFUSED, "after 1.4x"),
        (UNAFFORDABLE, "after 1.7x"),
        (1.5, "after 2x"),
    ]
    errors = [None if found.error is None else (type(found.error), str(found.error)) for found in findings.further]
    assert errors == [
        None,
        (InfeasibleError, "For 3x: out of reach"),
        (QualityGateError, "For 1.7x: too different"),
        (BudgetExhaustedError, "For 2x: no budget"),
        None,
    ]
    assert list(findings.certified(options)) == [1.2, 1.4, 1.5]  # type: ignore[arg-type]
