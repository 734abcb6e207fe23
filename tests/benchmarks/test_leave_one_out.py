"""Settings varied one at a time, and the tables of what models choose for themselves and for each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tuner.search.space import SearchSpace, step_lengths

LEVELS = np.array([1.0, 0.99, 0.96, 0.8, 0.3, 0.0])
SPACE = SearchSpace(strides=("2x2x2",), cache_steps=(5,), rates=(0.0, 0.5))
MACHINE = dict.fromkeys(("cpu", "cpu_count", "threads", "gpu", "python", "torch", "diffusers"), "x")


def test_every_value_in_use_is_the_searchs_own() -> None:
    from leave_one_out import SETTINGS

    for setting in SETTINGS:
        assert setting.in_use in setting.values
        space = setting.changed(SPACE, setting.in_use)
        np.testing.assert_allclose(space.step_weights(LEVELS), SPACE.step_weights(LEVELS))
        assert (space.memory_trust, space.trusts[0]) == (SPACE.memory_trust, SPACE.trusts[0])


def test_every_other_value_changes_what_it_says() -> None:
    from leave_one_out import SETTINGS

    power, steering, memory, blocks = SETTINGS
    early = steering.changed(SPACE, 1.0).steering_weights(LEVELS) / SPACE.step_weights(LEVELS)
    np.testing.assert_allclose(early, np.exp([3, 1.4, 1, 0, 0]))
    ratio = power.changed(SPACE, 2.0).step_weights(LEVELS) / SPACE.step_weights(LEVELS)
    np.testing.assert_allclose(ratio, step_lengths(LEVELS))
    assert memory.changed(SPACE, 1.0).memory_trust == 1
    assert blocks.changed(SPACE, 0.0).trusts[0].blocks == 0


def run(name: str, better: float) -> list[dict[str, Any]]:
    """Results of two prompts, on which copying with one value of one setting has a tenth of the error."""
    from leave_one_out import SETTINGS, SPEEDUPS

    names = {
        setting.schedule(kind, speedup, value): 1e-5 if (setting.name, value) == ("trust in blocks", better) else 1e-4
        for setting in SETTINGS
        for value in setting.values
        for kind in setting.kinds
        for speedup in SPEEDUPS[kind]
    }
    head = {
        "subject": {"model": name, "workload": {"steps": 20, "guidance_scale": 2.0}},
        "environment": MACHINE,
        "longest": 2,
        "shortest": 1,
    }
    rows = [
        {"kind": "video", "schedule": schedule, "prompt": prompt, "mse": error * (1 if prompt == "a" else 4)}
        for prompt in "ab"
        for schedule, error in names.items()
    ]
    rows[0] = {"kind": "twin", "schedule": rows[0]["schedule"], "same_as": rows[1]["schedule"]}  # of one prompt only
    return [head, *[row for row in rows if row["schedule"] != rows[0]["schedule"] or row["kind"] == "twin"]]


def test_models_choose_for_themselves_and_for_each_other() -> None:
    from leave_one_out import document

    lines = document([run("one", 1.0), run("two", 1.0), run("three", 0.0)], "the command").splitlines()
    assert "| trust in blocks | one, 20 steps | 0.5 | 1 | 0 | 10 | 10 |" in lines  # one model for each: the first
    assert "| trust in blocks | three, 20 steps | 0.5 | 0 | 1 | 10 | 10 |" in lines
    assert "| memory_trust | one, 20 steps | 0.25 | 0.25 | 0.25 | 1 | 1 |" in lines
    assert "| trust in blocks | 1 | copying by tables, 1.2x | 47.0 | 47.0 | 37.0 |" in lines


def test_unfinished_prompts_do_not_count() -> None:
    from leave_one_out import bed_of

    rows = run("one", 1.0)
    assert {len(errors) for errors in bed_of(rows[:-1]).errors.values()} == {1}
    with pytest.raises(SystemExit, match="one: no prompt is finished"):
        bed_of([row for i, row in enumerate(rows) if i not in (2, len(rows) - 1)])


def test_schedules_that_are_alike_are_generated_once() -> None:
    from leave_one_out import without_twins

    from asymrnr.schedule import Schedule

    one, same, other = (Schedule({"Q": np.full((2, 3), rate)}) for rate in (0.5, 0.5, 0.4))
    different, twins = without_twins({"one": one, "same": same, "other": other})
    assert (list(different), twins) == (["one", "other"], {"same": "one"})
