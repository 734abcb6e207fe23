"""Plans of many runs: what they say, what they refuse, and that they go on where they were."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tests.hostile.mutations import mutated
from tuner.cli import app
from tuner.context import NoProgress, TuneOptions
from tuner.errors import FleetError, InfeasibleError, NoisyMeasurementError, TunerError, UsageError
from tuner.fleet import run as run_module
from tuner.fleet.plan import read_plan, runs_of
from tuner.fleet.run import carry_out
from tuner.fleet.states import State, read_summary

PLAN = {
    "models": ["tiny-cogvideox", {"name": "ltx-video"}],
    "workloads": [{"steps": 4}, {}],
    "targets": [1.1, 1.2],
    "budget": 20,
    "trials": 10,
    "workers": 2,
    "store": "postgresql://me@here/measured",
}


def written(content: Any, folder: Path) -> Path:
    path = folder / "plan.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def test_a_plan_is_every_combination_in_its_order(tmp_path: Path) -> None:
    runs = runs_of(read_plan(written(PLAN, tmp_path)))
    assert list(runs)[:4] == [
        *("tiny-cogvideox-4-steps-x1.10", "tiny-cogvideox-4-steps-x1.20"),
        *("tiny-cogvideox-x1.10", "tiny-cogvideox-x1.20"),
    ]
    assert len(runs) == 8
    one = runs["tiny-cogvideox-4-steps-x1.20"]
    assert (one.target_speedup, one.budget, one.trials, one.workers) == (1.2, 20.0, 10, "2")
    assert one.output == tmp_path / "fleet" / "tiny-cogvideox-4-steps-x1.20"
    assert one.model_entry().workload.steps == 4
    assert one.resume


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"models": []}, "'models': tuple should have at least 1 item"),
        ({"models": ["no-such"]}, "There is no model 'no-such'"),
        ({"targets": [0.9]}, "'targets': every target must be a speed-up above 1"),
        ({"targets": [float("nan")]}, "'targets': every target must be a speed-up above 1"),
        ({"targets": [1.2, 1.2]}, "has tiny-cogvideox-4-steps-x1.20 twice"),
        ({"budget": 0}, "'budget': input should be greater than 0"),
        ({"colour": "red"}, "'colour': extra inputs are not permitted"),
        ({"workloads": [{"step": 4}]}, "'workloads.0.step': extra inputs are not permitted"),
        ({"workloads": [{"steps": 1}]}, "--steps is 1; give at least 2"),
        ({"workloads": [{"prompts": "none.txt"}]}, "none.txt cannot be read"),
    ],
)
def test_what_no_plan_can_say_is_refused_in_one_sentence(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = written({**PLAN, **change}, tmp_path)
    with pytest.raises(UsageError) as refused:
        runs_of(read_plan(path))
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "- a\n- b", "a: [", "\0", "x" * 2_000_000, "a: &a [*a, *a]", "!!python/object:os.x {}"]
)
def test_what_is_no_plan_is_refused_in_one_sentence(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        read_plan(written(text, tmp_path))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 600
    with pytest.raises(UsageError, match="There is no plan"):
        read_plan(tmp_path)


@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_plans_are_taken_or_refused_and_nothing_else(count: int, tmp_path: Path) -> None:
    generator = random.Random(0)
    refused = 0
    for _ in range(count):
        try:
            path = written(yaml.safe_dump(mutated(PLAN, generator), allow_unicode=False), tmp_path)
        except (RecursionError, UnicodeEncodeError):
            continue
        message = ""
        try:
            runs_of(read_plan(path))
        except UsageError as error:
            refused += 1
            message = str(error)
        assert "\n" not in message
        assert len(message) < 1_000
    assert refused > count / 4


class Tunes:
    """Stands for `tune`: ends as it is told, by the name of the folder."""

    def __init__(self, ends: Mapping[str, BaseException]) -> None:
        self.ends = ends
        self.asked: list[str] = []

    def __call__(self, options: TuneOptions, _: object) -> None:
        self.asked.append(options.output.name)
        if options.output.name in self.ends:
            raise self.ends[options.output.name]


def carried(runs: Mapping[str, TuneOptions], folder: Path) -> list[Sequence[State]]:
    shown: list[Sequence[State]] = []
    carry_out(runs, folder, lambda states: shown.append(list(states.values())), lambda _: NoProgress())
    return shown


def test_it_goes_on_where_it_was_and_no_run_ends_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = {**PLAN, "models": ["tiny-cogvideox"]}
    path = written(plan, tmp_path)
    runs, folder = runs_of(read_plan(path)), tmp_path / "fleet"
    names = list(runs)
    ends: dict[str, BaseException] = {
        names[0]: InfeasibleError("out of reach <b>"),
        names[1]: NoisyMeasurementError("too noisy"),
        names[2]: KeyboardInterrupt(),
    }
    tunes = Tunes(ends)
    monkeypatch.setattr(run_module, "tune", tunes)
    with pytest.raises(KeyboardInterrupt):
        carried(runs, folder)
    assert tunes.asked == names[:3]
    assert [state.exit_code for state in read_summary(folder).values()] == [3, 5, None, None]
    tunes.asked.clear()
    del ends[names[2]]
    with pytest.raises(FleetError, match=rf"2 of 4 runs have no certificate, the first one {names[0]} \(out of reach"):
        carried(runs, folder)
    assert tunes.asked == names[1:]  # what is out of reach stays so; noise may be over
    del ends[names[1]]
    tunes.asked.clear()
    with pytest.raises(FleetError, match="1 of 4"):
        carried(runs, folder)
    assert tunes.asked == [names[1]]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["version"] == 1
    assert [run["exit_code"] for run in summary["runs"]] == [3, 0, 0, 0]
    page = (folder / "index.html").read_text()
    assert "3 of 4 runs certified" in page
    assert "out of reach &lt;b&gt;" in page
    changed = runs_of(read_plan(written({**plan, "budget": 30}, tmp_path)))
    tunes.asked.clear()
    with pytest.raises(FleetError):
        carried(changed, folder)
    assert tunes.asked == names  # asked for otherwise


def test_on_the_command_line_it_has_its_own_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(options: TuneOptions, progress: Any) -> None:
        progress.stage("preflight", "looking")
        progress.advance(1, 2)
        progress.budget(1.0, 2.0)
        if options.target_speedup > 1.1:
            raise TunerError("no luck")

    monkeypatch.setattr(run_module, "tune", ends)
    done = CliRunner().invoke(app, ["fleet", str(written(PLAN, tmp_path))])
    assert isinstance(done.exception, FleetError)
    assert done.exception.exit_code == 9
    assert "summary in" in done.stdout
    done = CliRunner().invoke(app, ["fleet", str(tmp_path / "none.yaml")])
    assert isinstance(done.exception, UsageError)
