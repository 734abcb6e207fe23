"""Which finalist gets the next generation, and what a second attempt aims at."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from asymrnr.schedule import Schedule
from tuner.certify.gates import Gate
from tuner.errors import BudgetExhaustedError, NonFiniteError
from tuner.latency.fit import Evidence
from tuner.proof import MARGIN, MOST, UNSURE, second_aim, verdict_error
from tuner.search.result import Candidate, Recipe
from tuner.stages import choice, verify
from tuner.stages.certify import SLACK, Certification
from tuner.stages.choice import believed_speedup
from tuner.stages.verify import AIM, next_finalist

TARGET = 1.2


def candidate(kind: str, error: float, rate: float = 0.5) -> Candidate:
    schedule = Schedule(rates={"Q": np.full((2, 4), rate)})
    recipe = Recipe("table", "2x2x2", 3)
    return Candidate(schedule, 1.0, 1.3, error, bound=error, excess=error, kind=kind, label=kind, recipe=recipe)


def test_the_least_predicted_error_comes_first_and_every_kind_once() -> None:
    first, second = candidate("a", 1.0), candidate("b", 1.1, 0.6)
    assert next_finalist([first, second], []) is first
    assert next_finalist([candidate("a", 1.0, 0.4), second], ["a"]) is second
    assert next_finalist([first, second], ["a", "b"]) is None


def test_what_copies_is_no_finalist_beside_memory_that_works() -> None:
    copying, memory = candidate("table", 1.0), candidate("memory", 1.0, 0.6)
    memory = replace(memory, recipe=replace(memory.recipe, form="windows"))
    assert next_finalist([memory, copying], []) is memory
    assert next_finalist([memory, copying], ["memory"], [memory]) is None
    assert next_finalist([memory, copying], ["memory"]) is copying  # memory gave NaN


def test_a_finalist_is_chosen_by_what_was_measured_and_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is solved again for the aim without a change here, so that errors need not be carried."""
    monkeypatch.setattr(choice, "aimed", lambda ctx, profiled, model, one, *_: (one, 1.24))

    def chosen(*errors: tuple[float, float]) -> int:
        kinds = [candidate(str(n), predicted, 0.5 + n / 10) for n, (_, predicted) in enumerate(errors)]
        found: Any = [
            SimpleNamespace(candidate=one, mse=measured, evidence=Evidence(one.schedule, 0.2, 0.01))
            for one, (measured, _) in zip(kinds, errors, strict=True)
        ]
        nothing: Any = None
        return kinds.index(verify.choose(nothing, nothing, found, nothing, nothing, 1.24).chosen)

    assert chosen((1e-5, 1.0), (2e-5, 1.0)) == 0
    assert chosen((1e-5, 1.0), (2e-5, 0.4)) == 1
    assert chosen((1e-5, 1.0), (9e-5, 0.4)) == 0


@pytest.mark.parametrize(
    ("elsewhere", "chosen"),
    [
        ({"a": 1e-5, "b": 2e-5}, "a"),
        ({"a": 9e-5, "b": 1e-5}, "b"),  # what is best for one prompt often is not for others
        ({"a": 9e-5, "b": BudgetExhaustedError("no more")}, "a"),
        ({"a": NonFiniteError("NaN"), "b": 9e-5}, "b"),
        ({"a": NonFiniteError("NaN"), "b": NonFiniteError("NaN")}, "a"),
    ],
)
def test_the_two_best_meet_again_on_another_prompt(
    elsewhere: dict[str, Any], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "aimed", lambda ctx, profiled, model, one, *_: (one, 1.24))
    monkeypatch.setattr(verify, "fit", lambda *_: None)
    monkeypatch.setattr(verify, "mse", lambda tuned, plain: tuned)
    kinds = {name: candidate(name, 1.0, 0.5 + n / 10) for n, name in enumerate("abc")}
    names = {one.schedule.content_hash(): name for name, one in kinds.items()}
    asked = []

    def pair(stage: str, prompt: str, seed: int, schedule: Schedule, expected: float) -> Any:
        asked.append((prompt, names[schedule.content_hash()]))
        found = elsewhere[asked[-1][1]]
        if isinstance(found, Exception):
            raise found
        return measured(found)

    def measured(error: float) -> Any:
        estimate = SimpleNamespace(log_speedup=0.2, standard_error=0.01, speedup=1.22)
        return SimpleNamespace(tuned=SimpleNamespace(video=error), plain=SimpleNamespace(video=0), denoise=estimate)

    ctx: Any = SimpleNamespace(
        entry=SimpleNamespace(tuning_prompts=lambda count: ["one prompt", "another prompt"][:count]),
        tuning_seed=1_000,
        instrument=SimpleNamespace(pair=pair, ahead=lambda *_: None, pair_request=lambda *_: None),
        progress=SimpleNamespace(stage=lambda *_: None, advance=None),
    )
    errors = {"a": 1e-5, "b": 2e-5, "c": 1e-3}
    first = [choice.Verified(kinds[name], 1.24, measured(error), error) for name, error in errors.items()]
    nothing: Any = None
    before = verify.choose(nothing, nothing, first, nothing, nothing, 1.24)
    assert before.chosen is kinds["a"]
    early: Any = SimpleNamespace(model=None)
    found = verify.run_off(ctx, early, nothing, before, 1.24)
    assert found.chosen is kinds[chosen]
    assert asked == [("another prompt", "a"), ("another prompt", "b")]
    assert (
        verify.run_off(ctx, early, nothing, replace(before, verified=before.verified[:1]), 1.24).verified
        == before.verified[:1]
    )


def test_kinds_predicted_far_worse_are_given_up() -> None:
    first, hopeless = candidate("a", 1.0), candidate("b", 1.6, 0.6)
    assert next_finalist([first, hopeless], ["a"]) is None


def test_a_schedule_is_believed_by_what_is_precise() -> None:
    model: Any = SimpleNamespace(speedup=lambda _: 1.3)
    one = candidate("a", 1.0)
    assert believed_speedup(model, one, []) == pytest.approx(1.3)
    precise, vague = (Evidence(one.schedule, np.log(1.2), error) for error in (1e-4, 10.0))
    other = Evidence(candidate("b", 1.0, 0.7).schedule, np.log(2.0), 1e-4)
    assert believed_speedup(model, one, [precise, other]) == pytest.approx(1.2, rel=1e-3)
    assert believed_speedup(model, one, [vague, other]) == pytest.approx(1.3, rel=1e-3)


def certification(
    *failed: str,
    point: float,
    open_gates: bool = False,
    pairs: int = 4,
    short: float = 0.01,
    value: float = 1.2,
    **more: Any,
) -> Any:
    gates = [Gate(name, "FAIL", value, 1.0, f"about {name}", open=open_gates) for name in failed]
    return SimpleNamespace(
        failed=lambda: gates,
        denoise=SimpleNamespace(point=point, lower_bound_95=point * math.exp(-short)),
        pairs=[None] * pairs,
        **{"disturbed": (), "cut_short": None, **more},
    )


@pytest.mark.parametrize(
    ("failed", "point", "aim"),
    [
        ((), TARGET * 1.03, None),
        ((), TARGET * (1 + SLACK) * 1.01, TARGET * (1 + AIM)),  # speed not asked for costs quality
        (("speedup",), TARGET * 0.98, TARGET * math.exp(UNSURE)),
        (("video",), TARGET * 1.08, TARGET * math.exp(0.01 + MARGIN)),
        (("video",), TARGET * 1.054, TARGET * math.exp(0.01 + MARGIN)),
        (("video",), TARGET * 1.04, None),
        (("speedup", "video"), TARGET * 0.98, None),
        (("applied",), TARGET * 1.2, None),
        (("speedup", "noise"), TARGET, None),
    ],
)
def test_a_second_attempt_is_made_where_it_may_help(failed: tuple[str, ...], point: float, aim: float | None) -> None:
    found = second_aim(certification(*failed, point=point), TARGET)
    assert found == (None if aim is None else pytest.approx(aim))


@pytest.mark.parametrize(
    ("pairs", "point", "low", "settled"),
    [(4, 1.03, 1.01, True), (4, 1.06, 1.04, False), (6, 1.06, 1.04, True), (4, 1.08, 1.055, True)],
)
def test_a_certificate_above_its_aim_gets_one_further_look(pairs: int, point: float, low: float, settled: bool) -> None:
    denoise = SimpleNamespace(point=TARGET * point, lower_bound_95=TARGET * low)
    state: Any = SimpleNamespace(certified=True, undecided=False, pairs=[None] * pairs, denoise=denoise)
    assert Certification.settled(state, TARGET) == settled


def test_no_second_attempt_is_made_where_videos_are_far_off() -> None:
    near, far = (certification("video", point=1.08 * TARGET, value=value) for value in (1.9, 2.1))
    assert second_aim(near, TARGET) is not None
    assert second_aim(far, TARGET) is None


def test_a_second_attempt_leaves_room_for_what_the_bound_falls_short_of_the_estimate() -> None:
    aims = [second_aim(certification("speedup", point=TARGET, short=short), TARGET) for short in (0.02, 0.03, 0.2)]
    assert aims == pytest.approx([TARGET * math.exp(more) for more in (0.02 + MARGIN, 0.03 + MARGIN, MOST)])
    careful = [second_aim(certification("video", point=1.2 * TARGET, short=short), TARGET) for short in (0.005, 0.03)]
    assert careful == pytest.approx([TARGET * math.exp(0.005 + MARGIN), TARGET * (1 + AIM)])


@pytest.mark.parametrize(
    ("failed", "open_gates", "more", "code"),
    [
        (("speedup",), True, {"cut_short": "no budget"}, 7),
        (("speedup",), False, {}, 7),
        (("speedup", "noise"), True, {}, 5),
        (("speedup",), True, {"disturbed": (None,), "cut_short": "too busy"}, 5),
        (("speedup",), True, {"disturbed": (None,)}, 7),  # measured again, and undecided all the same
        (("video",), False, {}, 4),
        (("video",), True, {}, 4),
        (("speedup", "video"), False, {}, 4),
        (("pairs",), True, {"pairs": 3}, 7),
    ],
)
def test_exit_codes_follow_the_gates(failed: tuple[str, ...], open_gates: bool, more: dict, code: int) -> None:
    assert verdict_error(certification(*failed, point=1.2, open_gates=open_gates, **more)).exit_code == code
