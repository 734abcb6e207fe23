"""What is done after a verdict: another attempt, the better of two, what is measured again; without generations."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from asymrnr.schedule import Schedule
from tuner import pipeline, proof
from tuner.certify.gates import Gate
from tuner.errors import BudgetExhaustedError, NoisyMeasurementError
from tuner.findings import Findings
from tuner.stages.certify import PROMPTS, held_out_plan

TARGET = 1.2


def schedule(rate: float) -> Schedule:
    return Schedule(rates={"Q": np.full((2, 4), rate)})


def verification(rate: float) -> Any:
    runner_up = SimpleNamespace(schedule=schedule(0.3))
    return SimpleNamespace(chosen=SimpleNamespace(schedule=schedule(rate)), predicted_speedup=1.25, runner_up=runner_up)


def certification(name: str, point: float, *failed: str, **more: Any) -> Any:
    gates = [Gate(gate, "FAIL", 0.0, 1.0, f"about {gate}") for gate in failed]
    found = {"pairs": [SimpleNamespace(denoise=SimpleNamespace(usable=True))] * 4, "disturbed": (), "cut_short": None}
    return SimpleNamespace(
        name=name,
        failed=lambda: gates,
        certified=not failed,
        denoise=SimpleNamespace(point=point, lower_bound_95=point * 0.99),
        evidence=[],
        **{**found, **more},
    )


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the attempts of a run come to, in order; the second schedule differs from the first."""
    outcomes: list[Any] = []
    made: list[int] = []

    def certify(*_: Any, attempt: int = 0, **__: Any) -> Any:
        made.append(attempt)
        outcome = outcomes[len(made) - 1]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(proof, "certify", certify)

    def corrected(*given: Any) -> Any:
        like = given[-1]
        return verification(0.4 if like is None else like.schedule.rates["Q"][0, 0])

    monkeypatch.setattr(proof, "corrected", corrected)
    return outcomes


def prove(*outcomes: Any, attempts: list[Any]) -> Findings:
    attempts.extend(outcomes)
    findings = Findings(None, SimpleNamespace(), verification(0.5), noise_floor=0.02)  # type: ignore[arg-type]
    ledger = SimpleNamespace(reserve=lambda *_: None)
    ctx: Any = SimpleNamespace(options=SimpleNamespace(target_speedup=TARGET), ledger=ledger)
    proof.prove(ctx, findings, lambda: None)
    return findings


def name_of(findings: Findings) -> str:
    return findings.certification.name  # type: ignore[union-attr]


def test_a_certificate_close_to_the_target_is_final(attempts: list[Any]) -> None:
    assert name_of(prove(certification("first", 1.23), attempts=attempts)) == "first"


def test_a_certificate_far_above_the_target_gives_way_to_one_that_costs_less_quality(attempts: list[Any]) -> None:
    found = prove(certification("first", 1.30), certification("second", 1.23), attempts=attempts)
    assert name_of(found) == "second"
    assert found.verification is not None
    assert found.verification.chosen.schedule.rates["Q"][0, 0] == 0.4


@pytest.mark.parametrize(
    "second", [certification("second", 1.19, "speedup"), BudgetExhaustedError("no budget for more pairs")]
)
def test_a_certificate_is_never_given_up_for_a_refusal(second: Any, attempts: list[Any]) -> None:
    found = prove(certification("first", 1.30), second, attempts=attempts)
    assert name_of(found) == "first"
    assert found.verification is not None
    assert found.verification.chosen.schedule.rates["Q"][0, 0] == 0.5


def test_too_slow_is_tried_once_more(attempts: list[Any]) -> None:
    found = prove(certification("first", 1.18, "speedup"), certification("second", 1.24), attempts=attempts)
    assert name_of(found) == "second"


@pytest.mark.parametrize(
    ("point", "gate", "rate"),
    [(1.22, "video", 0.3), (1.22, "sharpness", 0.3), (1.30, "video", 0.4), (1.22, "applied", 0.5)],
)
def test_where_videos_fail_the_runner_up_is_tried_unless_the_first_was_faster_than_asked_for(
    point: float, gate: str, rate: float, attempts: list[Any]
) -> None:
    found = prove(certification("first", point, gate), certification("second", 1.23), attempts=attempts)
    assert name_of(found) == ("first" if rate == 0.5 else "second")
    assert found.verification is not None
    assert found.verification.chosen.schedule.rates["Q"][0, 0] == rate


def test_after_noise_the_disturbed_pairs_are_forgotten_and_only_they() -> None:
    forgotten: list[list[str]] = []
    store = SimpleNamespace(read_only=False, forget=forgotten.append)
    ctx: Any = SimpleNamespace(instrument=SimpleNamespace(store=store), sharing=None)
    usable, unusable = (
        SimpleNamespace(key_hash=name, denoise=SimpleNamespace(usable=name == "usable"))
        for name in ("usable", "unusable")
    )
    disturbed = SimpleNamespace(key_hash="disturbed")
    found: Any = certification("first", 1.2, "noise", pairs=[usable, unusable], disturbed=(disturbed,))
    pipeline._forget_disturbed(ctx, Findings(certification=found, error=NoisyMeasurementError("too noisy")))
    assert forgotten == [["disturbed", "unusable"]]
    pipeline._forget_disturbed(ctx, Findings(certification=found, error=BudgetExhaustedError("no budget")))
    assert len(forgotten) == 1


@pytest.mark.parametrize("seed", range(5))
def test_attempts_look_at_different_prompts_and_runs_rotate_them(seed: int) -> None:
    prompts = [f"prompt {i}" for i in range(PROMPTS)]
    ctx: Any = SimpleNamespace(
        entry=SimpleNamespace(held_out_prompts=lambda n: prompts[:n]), options=SimpleNamespace(seed=seed)
    )
    first, second = (held_out_plan(ctx, attempt) for attempt in (0, 1))
    assert len({prompt for prompt, _ in first + second}) == PROMPTS == len({s for _, s in first + second})
    other: Any = SimpleNamespace(entry=ctx.entry, options=SimpleNamespace(seed=seed + 1))
    assert held_out_plan(other)[0] != first[0]


@pytest.mark.parametrize(
    ("count", "pairs"), [(4, (4, 0)), (11, (11, 0)), (12, (8, 4)), (15, (11, 4)), (17, (12, 5)), (24, (12, 12))]
)
def test_the_second_attempt_has_the_prompts_that_the_first_leaves_over(count: int, pairs: tuple[int, int]) -> None:
    prompts = [f"prompt {i}" for i in range(count)]
    ctx: Any = SimpleNamespace(
        entry=SimpleNamespace(held_out_prompts=lambda n: prompts[:n]), options=SimpleNamespace(seed=3)
    )
    plans = [held_out_plan(ctx, attempt) for attempt in (0, 1)]
    assert tuple(map(len, plans)) == pairs
    assert len({prompt for plan in plans for prompt, _ in plan}) == sum(pairs)
