"""What else there is to choose from: all of it runs or says why not, and the document says what was found."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.conftest import FOLDER
from tests.pipelines.tiny_pipelines import build, tiny_entry
from tuner.run.runner import Runner

NAME, STEPS = "cogvideox-2b", 6
MACHINE = ("cpu", "cpu_count", "threads", "gpu", "python", "torch", "diffusers")
HEAD: dict[str, Any] = {
    "kind": "head",
    "environment": dict.fromkeys(MACHINE, "some"),
    "subject": {"model": "tiny-cogvideox", "workload": {"steps": 30}},
}


def pairs(family: str, method: str, speedup: float, error: float, skipped: float = 0.3, count: int = 3) -> list[Any]:
    """Pairs with a scatter that leaves the geometric means as they are; prompts differ as much in every method."""
    rows = []
    for i in range(count):
        off = i - (count - 1) / 2
        row = {"kind": "pair", "family": family, "method": method, "prompt": f"prompt {i}", "seed": i}
        row |= {"log_speedup": math.log(speedup) + 0.01 * off, "standard_error": 0.01, "disturbed": 1, "steps": 30}
        row |= {"plain_attributes": {"color": True, "shape": True}, "attributes": {"color": True, "shape": i > 0}}
        rows.append({**row, "mse": error * math.exp(0.5 * off), "skipped": skipped})
    return rows


def test_the_document_compares_with_the_best_alternative() -> None:
    from alternatives_report import COPIED, TUNED, document, draw

    rows = [HEAD, *pairs(TUNED, "a/x1.20", 1.2, 1e-4), *pairs(COPIED, "b/x1.50", 1.5, 1e-3)]
    rows += [*pairs("PAB", "slow", 1.1, 1e-4), *pairs("PAB", "fast", 1.1 * (1.2 / 1.1) ** 2, 4e-4)]
    rows += [*pairs("PAB", "slower and worse than fast", 1.15, 1e-2), *pairs("MagCache", "one", 1.25, 3e-4)]
    rows += pairs("FirstBlockCache", "identical", 1.1, 0.0, 0.0, 2)
    rows += pairs("SeaCache", "within noise", 1.001, 1e-5, 0.0)
    rows += [{"kind": "unavailable", "family": "FasterCache", "method": "x", "reason": "IndexError: a | b\nc"}]
    text = document(rows, "python benchmarks/alternatives.py", 4, "alternatives.svg")
    assert "what else there is, 30 steps" in text
    assert "3 held-out prompts" in text
    assert "23 of 690 steps" in text
    assert "4 pairs are left" in text
    assert "| **tuned** | **a/x1.20** | **1.200x (1.171x to 1.230x)** | **1.0e-04 (" in text
    assert "| **40.0** | **83.3%** | **30.0%** | 3 | 3 |" in text
    assert "| FirstBlockCache | identical | 1.100x (1.032x to 1.172x) | does nothing | - | 75.0% | 0.0% | 2 |" in text
    assert "| SeaCache | within noise | 1.001x (0.976x to 1.026x) | does nothing |" in text
    assert "| FasterCache | x | not available: IndexError: a \\| b c | | | | | |" in text
    order = ["within noise", "| slow |", "| slower and worse", "**a/x1.20**", "| one |", "| fast |", "**b/x1.50**"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    between = "is PAB, between slow (1.100x) and fast (1.309x); its error is 2.00 (2.00 to 2.00) times"
    assert f"- tuned, a/x1.20 at 1.200x: the best of diffusers' caches that is as fast or faster {between}" in text
    assert "b/x1.50 at 1.500x: none of diffusers' caches that was measured is as fast." in text
    assert "a/x1.20 at 1.200x: the best of schedules tuned to copy only that is as fast or faster is tuned, cop" in text
    labels = {label.get_text() for legend in draw(rows).legends for label in legend.get_texts()}
    assert labels == {TUNED, COPIED, "PAB", "MagCache"}


def test_the_document_can_be_written_at_any_time(tmp_path: Path) -> None:
    from alternatives_report import TUNED, write

    write([HEAD], "", 8, tmp_path / "alternatives-30.md")
    assert "8 pairs are left" in (tmp_path / "alternatives-30.md").read_text()
    write([HEAD, *pairs(TUNED, "a", 1.2, 1e-4, count=1)], "", 0, tmp_path / "alternatives-30.md")
    text = (tmp_path / "alternatives-30.md").read_text()
    assert "1.200x (n = 1)" in text
    assert "![error against speed-up](alternatives-30.svg)" in text
    assert (tmp_path / "alternatives-30.png").exists()
    assert (tmp_path / "alternatives-30.svg").exists()


def test_a_faster_alternative_stands_for_all_slower_speeds() -> None:
    from alternatives_report import TUNED, verdict
    from frontier import Measured, at_speed, frontier

    kind = "of diffusers' caches"
    slow, fast = (
        Measured("PAB", name, tuple(pairs("PAB", name, *at))) for name, *at in (("s", 1.3, 2.0), ("f", 1.4, 3.0))
    )
    tuned = Measured(TUNED, "a", tuple(pairs(TUNED, "a", 1.2, 1.0)))
    line = frontier([fast, slow])
    assert line == [slow, fast]
    assert at_speed(line, tuned.log_speedup) == [(1.0, slow)]
    assert at_speed(line, fast.log_speedup) == [(1.0, fast)]
    assert at_speed(line, math.log(1.5)) == at_speed([], 0.0) == []
    assert "is PAB, s (1.300x); its error is 2.00 (2.00 to 2.00) times" in verdict(tuned, [slow, fast], kind)


def test_everything_is_measured_once_or_says_why_not(tmp_path: Path) -> None:
    import alternatives
    from frontier import measured
    from kept_results import Results

    runner = Runner(build(NAME), tiny_entry(NAME, STEPS))
    runner.entry = replace(runner.entry, attributes=lambda video, prompt: {"shown": True})

    @contextmanager
    def broken(runner: Runner) -> Iterator[None]:
        raise ValueError("cannot be installed")
        yield

    blocks, every = len(runner.denoiser.transformer_blocks), [("a cat", 3), ("a dog", 4), ("a bird", 5)]
    full = [*alternatives.by_hand(blocks, STEPS), *alternatives.of_diffusers(STEPS)]
    assert len({(method.family, method.name) for method in full}) == len(full)
    methods = list({method.family: method for method in full}.values())  # the boldest of each family
    methods += [method for method in full if method.name in ("as it comes", "reduce, Q 0.3")]
    methods.append(alternatives.Alternative("broken", "always", install=broken))
    results, written = Results(tmp_path, HEAD), []

    def again(pairs: list[Any], names: tuple[str, ...] | None = None) -> None:
        some = [method for method in methods if names is None or method.name in names]
        alternatives.measure_all(runner, some, pairs, results, lambda: written.append(len(results.rows)))

    again(every[:1])
    count = len(written)
    assert count == len(methods)
    found, missing = measured(results.rows)
    reasons = {row["family"]: row["reason"] for row in missing}
    assert reasons["broken"] == "ValueError: cannot be installed"
    assert reasons.keys() <= {"broken", "FasterCache"}  # which fails where the first timestep is in its range
    idle = {(method.family, method.name) for method in found if method.idle}
    assert ("TaylorSeer", "as it comes") in idle
    assert ("SeaCache", "told where the latents are") in idle
    for method in found:
        assert (method.pairs[0]["skipped"] > 0) == (method.pairs[0]["mse"] > 0), method
    assert {method.family for method in found if method.family.startswith("uniform")}.isdisjoint(f for f, _ in idle)
    again(every[:1])
    assert len(written) == count
    again(every, ("as it comes", "reduce, Q 0.3"))
    numbers = {(method.family, method.name): len(method.pairs) for method in measured(results.rows)[0]}
    assert numbers["TaylorSeer", "as it comes"] == alternatives.IDLE_PAIRS
    assert numbers["uniform copying", "reduce, Q 0.3"] == len(every)


def test_errors_of_more_prompts_come_from_videos_generated_alone(tmp_path: Path) -> None:
    import alternatives
    from alternatives_report import TUNED, document
    from frontier import measured
    from kept_results import RESULTS, Results

    runner = Runner(build(NAME), tiny_entry(NAME, STEPS))
    blocks, every = len(runner.denoiser.transformer_blocks), [("a cat", 3), ("a dog", 4), ("a bird", 5)]
    assert alternatives.part_of(every, "1/2") == [every[0], every[2]]
    methods = {method.family: method for method in alternatives.by_hand(blocks, STEPS)}
    methods |= {method.family: method for method in alternatives.of_diffusers(STEPS) if method.family == "PAB"}
    for part in ("1/2", "2/2"):
        results = Results(tmp_path / part[0], HEAD)
        for _ in range(2):  # the second time everything is there
            alternatives.measure_errors(runner, list(methods.values()), alternatives.part_of(every, part), results)
        assert len(results.rows) == 1 + len(methods) * len(alternatives.part_of(every, part))
    rows = alternatives.rows_of([tmp_path / "1", tmp_path / "2"], HEAD["subject"])
    assert {(row["prompt"], row["seed"]) for row in rows} == set(every)
    assert all(row["mse"] > 0 and 0 < row["skipped"] < 1 for row in rows)
    timed = Results(tmp_path / "timed", HEAD)
    alternatives.measure_all(runner, list(methods.values()), every[:1], timed, lambda: None)
    found, _ = measured([*timed.rows, *rows])
    for method in found:
        assert (len(method.pairs), len(method.videos)) == (1, 3)
        (beside,), (alone,) = method.pairs, [row for row in method.videos if row["prompt"] == "a cat"]
        assert alone["mse"] == pytest.approx(beside["mse"], rel=1e-3)
        assert alone["skipped"] == pytest.approx(beside["skipped"])
    text = document([*timed.rows, *rows, *pairs(TUNED, "a", 1.2, 1e-4)], "", 0, "a.svg")
    assert "generated without timing (some)" in " ".join(text.split())
    with pytest.raises(SystemExit, match="another model"):
        alternatives.rows_of([tmp_path / "1"], {"model": "other", "workload": {}})
    assert (tmp_path / "1" / RESULTS).exists()


def test_schedules_of_other_lengths_are_refused() -> None:
    import alternatives

    shipped = FOLDER.parent / "profiles" / "tiny-cogvideox" / "30-steps.json"
    first, between, other = alternatives.from_file("tuned", shipped, 30)
    assert first.name.startswith("tiny-cogvideox/30-steps (")
    assert between.name.startswith("tiny-cogvideox/30-steps for 1.35x (")
    assert other.name.startswith("tiny-cogvideox/30-steps for 1.8x (")
    with pytest.raises(SystemExit, match=r"is for 30 steps, but --steps is 8"):
        alternatives.from_file("tuned", shipped, 8)


@pytest.mark.slow
def test_the_benchmark_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "alternatives.py"), "--quick", "--output", str(tmp_path)]
    for _ in range(2):  # the second time everything is there
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "pairs left" not in done.stdout
    text = (tmp_path / "alternatives-3.md").read_text()
    assert "pairs are left" not in text
    assert "**tuned**" in text
