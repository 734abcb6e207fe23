"""The report of the benchmarks, and that every benchmark runs."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.benchmarks.conftest import FOLDER

ROOT = Path(__file__).parents[2]


@pytest.fixture
def modules() -> tuple[ModuleType, ModuleType]:
    """`benchmarks/timing.py` and `benchmarks/performance.py`, which are scripts' neighbours and no package."""
    import performance
    import timing

    return timing, performance


def results(timing: Any, folder: Path) -> None:
    """A benchmark with two misses and one without any."""
    rows = [
        timing.judge("small", "time / product", 1.31, 1.3),
        timing.judge("large", "time / product", 1.2, 1.3),
        timing.judge("large", "time / tomesd", 9.0),
    ]
    arguments = argparse.Namespace(output=folder / "matching.json", rounds=7)
    timing.report(rows, arguments, ["tomesd is not installed and was not compared."])
    rows = [timing.judge("|rate|", "realised / FLOPs gain", 0.86, at_least=0.85)]
    timing.report(rows, argparse.Namespace(output=folder / "site.json", rounds=2), [])


def test_targets_are_met_on_the_right_side(modules: tuple[Any, Any]) -> None:
    timing, _ = modules
    assert [timing.judge("", "", value, 1.3)["verdict"] for value in (1.3, 1.31)] == ["met", "missed"]
    assert [timing.judge("", "", value, at_least=0.9)["verdict"] for value in (0.9, 0.89)] == ["met", "missed"]
    assert timing.judge("", "", float("nan"), 1.0)["verdict"] == "missed"
    assert timing.judge("", "", 5.0)["verdict"] == ""


def test_document_marks_targets_and_explains_misses(modules: tuple[Any, Any], tmp_path: Path) -> None:
    timing, performance = modules
    results(timing, tmp_path)
    text = performance.write_document(performance.load_results(tmp_path), tmp_path).read_text()
    assert "2 figures with a target met it, 1 missed it." in text
    assert "| Matching | time / product | <= 1.3 | 1.31 | 1 of 2 | **missed** |" in text
    assert "| One attention site | realised / FLOPs gain | >= 0.85 | 0.86 | 1 of 1 | met |" in text
    assert "small (1.31). At 3k tokens" in text
    assert "`python benchmarks/site.py --rounds 2`" in text
    assert "not compared" in text
    assert "Search: not run" in text
    assert r"\|rate\|" in text


def test_document_says_that_no_device_was_there(modules: tuple[Any, Any], tmp_path: Path) -> None:
    timing, performance = modules
    results(timing, tmp_path)
    path = tmp_path / "matching.json"
    content = json.loads(path.read_text())
    content["environment"]["gpu"] = "Some GPU"
    path.write_text(json.dumps(content))
    assert "no CUDA device" not in performance.document(performance.load_results(tmp_path))
    content["environment"]["gpu"] = None
    path.write_text(json.dumps(content))
    (tmp_path / "site.json").unlink()
    assert "GPU: not run: no CUDA device" in performance.document(performance.load_results(tmp_path))


def test_growth_is_drawn(modules: tuple[Any, Any], tmp_path: Path) -> None:
    timing, performance = modules
    series = {"sizes": [1.0, 2.0], "work": [1.0, 4.0], "seconds": [0.1, 0.2]}
    row = timing.judge("tokens", "exponent of the growth", 1.0, 1.15, **series)
    timing.report([row], argparse.Namespace(output=tmp_path / "growth.json", rounds=2), [])
    path = performance.write_document(performance.load_results(tmp_path), tmp_path)
    assert "![growth](performance-growth.svg)" in path.read_text()
    assert (tmp_path / "performance-growth.svg").exists()


@pytest.mark.slow
def test_every_benchmark_runs(tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in (FOLDER / "results").iterdir()}
    done = subprocess.run(
        [sys.executable, str(FOLDER / "all.py"), "--quick"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = Path(done.stdout.split("Written: ")[1].replace("\n", "")).read_text()
    assert "not run" not in document.replace("GPU: not run", "")
    assert {path: path.read_bytes() for path in (FOLDER / "results").iterdir()} == before
