"""The benchmark of a disturbed machine: what disturbs it, what is recorded, and what the document says of it."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.conftest import FOLDER

HEAD: dict[str, Any] = {"kind": "head", "model": "tiny-cogvideox", "target": 1.2}
SOMEWHERE = dict.fromkeys(("cpu", "cpu_count", "threads", "gpu", "python", "torch", "diffusers"), "some")


def run(condition: str, seed: int, **changed: Any) -> dict[str, Any]:
    """A certified run, unless changed."""
    row = {"kind": "run", "condition": condition, "seed": seed, "exit": 0, "seconds": 600.0, "resumed": False}
    row |= {"saved": True, "point": 1.23, "bound": 1.21, "pairs": 4, "attempt": 1, "disturbed_steps": 0.02}
    return row | {"disturbed_pairs": 0, "spent_ie": 17.0, "failed": [], "environment": SOMEWHERE} | changed


def same(condition: str, seed: int, speedup: float) -> dict[str, Any]:
    return {
        "kind": "same",
        "condition": condition,
        "seed": seed,
        "log_speedup": math.log(speedup),
        "standard_error": 0.01,
        "disturbed": 1,
        "steps": 30,
        "environment": SOMEWHERE,
    }


def test_bursts_are_seeded_and_as_long_and_frequent_as_said() -> None:
    import burner

    found = list(itertools.islice(burner.bursts(3), 3000))
    assert found == list(itertools.islice(burner.bursts(3), 3000))
    assert found[:10] != list(itertools.islice(burner.bursts(4), 10))
    lengths = [end - begin for begin, end in found]
    assert min(lengths) >= 1 - 1e-9
    assert max(lengths) <= 3 + 1e-9
    assert all(begin >= end for (_, end), (begin, _) in itertools.pairwise(found))
    assert sum(lengths) / found[-1][1] == pytest.approx(0.3, abs=0.02)


def test_the_burner_ends_with_its_parent() -> None:
    code = (
        "import os, subprocess, sys; "
        "subprocess.Popen([sys.executable, sys.argv[1], '--parent', str(os.getpid())], stdin=subprocess.DEVNULL)"
    )
    # Everything started inherits the output, so that this waits for the end of all of it.
    subprocess.run([sys.executable, "-c", code, str(FOLDER / "burner.py")], stdout=subprocess.PIPE, timeout=60)


def test_the_document_judges_what_is_asked() -> None:
    from disturbed_report import document

    runs = [run("quiet", i) for i in range(10)] + [run("disturbed", 100 + i) for i in range(8)]
    runs += [run("disturbed", 108, exit=7, failed=["speedup"], point=1.19), run("disturbed", 109, resumed=True)]
    pairs = [same(*row) for row in (("quiet", 0, 1.25), ("disturbed", 100, 1.26), ("quiet", 1, 1.27))]
    text = document([HEAD, *pairs, same("disturbed", 101, 1.26), *runs], "python benchmarks/disturbed.py")
    assert "| all quiet runs certified | 10 of 10 | met |" in text
    assert "| at least 9 of 10 disturbed runs certified | 9 of 10 | met |" in text
    assert "| none ends with exit code 3 | 0 of 20 | met |" in text
    assert "| none ends without a saved schedule | 0 of 20 | met |" in text
    assert "18 of 20 runs | 19 of 20, 1.190x to 1.230x | met |" in text
    assert "quiet 1.260x (" in text
    assert "intervals over 2 pairs each | met so far |" in text
    assert "| disturbed | 108 | 7 | 1.190x | 1.210x | 4 | 1 | 2.0% | 0 | 17.0 | 10.0 | yes | speedup |" in text
    assert "10.0\\* |" in text
    assert (
        "- some, some CPUs, some threads, some, Python some, torch some, diffusers some (24 of the 24 results)" in text
    )


def test_the_document_says_what_is_missed_or_not_run() -> None:
    from disturbed_report import document

    failed = {"exit": 3, "saved": False}
    bare = {name: value for name, value in run("quiet", 1, **failed).items() if name not in ("point", "bound")}
    text = document([HEAD, same("quiet", 0, 1.2), run("quiet", 0, point=1.3), bare], "")
    assert "| all quiet runs certified | 1 of 2 | **missed** |" in text
    assert "disturbed runs certified | 0 of 0" not in text
    assert "| at least 9 of 10 disturbed runs certified | not run |  |" in text
    assert "| none ends with exit code 3 | 1 of 2 | **missed** |" in text
    assert "| none ends without a saved schedule | 1 of 2 | **missed** |" in text
    assert "18 of 20 runs | 0 of 2, 1.300x to 1.300x | **missed** |" in text
    assert "disturbed within 3 % of quiet | not run |  |" in text
    text = document([HEAD, same("quiet", 0, 1.2), same("disturbed", 100, 1.3)], "")
    assert "intervals over 1 pairs each | **missed** |" in text


def test_results_go_on_where_they_ended(tmp_path: Path) -> None:
    from disturbed import in_turn
    from kept_results import Results

    assert list(in_turn(2)) == [("quiet", 0), ("disturbed", 100), ("quiet", 1), ("disturbed", 101)]
    results = Results(tmp_path, HEAD)
    results.add(run("quiet", 0))
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"kind": "ru')
    again = Results(tmp_path, HEAD)
    assert again.rows == results.rows
    assert again.has(kind="run", condition="quiet", seed=0)
    assert not again.has(kind="run", condition="disturbed", seed=100)
    assert not again.has(kind="same", condition="quiet", seed=0)
    with pytest.raises(SystemExit, match=r"target was 1\.2"):
        Results(tmp_path, {**HEAD, "target": 1.3})


def test_a_run_without_an_artifact_saved_nothing(tmp_path: Path) -> None:
    from disturbed import evidence

    assert evidence(tmp_path / "x1.20.json") == {"saved": False}
    shipped = FOLDER.parent / "profiles" / "tiny-cogvideox" / "30-steps.json"
    found = evidence(shipped)
    assert found["saved"]
    assert found["point"] > 1
    assert found["pairs"] >= 1
