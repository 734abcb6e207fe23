"""The rehearsal of full-size blocks: its numpy is right, its page says what was measured, and it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from asymrnr.partition import make_partition
from tests.benchmarks.conftest import FOLDER
from tests.runtime import oracle

ROOT = Path(__file__).parents[2]
GRID, RATE = (4, 4, 6), 0.6


@pytest.fixture
def neighbours() -> tuple[ModuleType, ModuleType, ModuleType]:
    import rehearsal_oracle
    import rehearsal_report
    import roofline

    return rehearsal_oracle, rehearsal_report, roofline


def test_its_numpy_agrees_with_the_slow_oracle(neighbours: tuple[ModuleType, ...]) -> None:
    fast = neighbours[0]
    rng = np.random.default_rng(0)
    partition = make_partition(GRID, (2, 2, 2), torch.Generator().manual_seed(0))
    destinations, sources = partition.dst.numpy(), partition.src.numpy()
    features = {name: rng.normal(size=(96, 8)) for name in "qv"}
    matched = {n: fast.match(x, destinations, sources, RATE) for n, x in features.items()}
    for name, x in features.items():
        kept, stands_in = oracle.reduce(x, destinations.tolist(), sources.tolist(), RATE, "euclidean")
        assert np.flatnonzero(matched[name].kept).tolist() == kept
        assert {t: int(matched[name].stands_in[t]) for t in stands_in} == stands_in
        assert matched[name].sure.mean() > 0.9
    q, k, v = (torch.from_numpy(rng.normal(size=(99, 8))).float() for _ in range(3))
    rows, video = np.array([0, 40, 95]), slice(0, 96)
    found = fast.attention_rows(q, k, v, video, rows, matched["q"], matched["v"])
    keep = torch.from_numpy(np.append(matched["v"].kept, [True] * 3))
    taken = q[:96][torch.from_numpy(matched["q"].stands_in[rows])]
    want = torch.nn.functional.scaled_dot_product_attention(taken[None], k[keep][None], v[keep][None])[0]
    np.testing.assert_allclose(found, want.numpy(), rtol=1e-4, atol=1e-5)


def test_the_page_says_what_was_measured(neighbours: tuple[ModuleType, ...], tmp_path: Path) -> None:
    report = neighbours[1]
    content = json.loads((FOLDER / "results" / "rehearsal.json").read_text())
    report.write(content, tmp_path / "full-size.md")
    text = (tmp_path / "full-size.md").read_text()
    assert text == (ROOT / "docs" / "full-size.md").read_text()
    for row in content["rows"]:
        assert text.count(f"| {row['name']} |") >= 2
        assert row["restored"] == 1
        assert row["oracle_error"] < 0.01
        assert row["full_profile"] <= report.PROFILING_BYTES
        assert row["timing_bytes"] <= report.TIMING_BYTES
    for model in report.PLANNED:
        assert text.count(f"| {model} |") == 2


def test_the_roofline_counts_products_and_reads(neighbours: tuple[ModuleType, ...]) -> None:
    roofline = neighbours[2]
    peak = roofline.Peak("any", 1e12, 1e12, 1e12)
    found = roofline.estimate((4, 4, 4), 0, 2, 16, (2, 2, 2), peak, sources=8)
    assert found.matching_operations == 2 * 56 * 8 * 16 * 2
    assert found.attention_operations == 4 * 64 * 64 * 16 * 2
    assert found.cache_bytes == 7 * 8 * 16 * 2 * 2
    assert found.matching == pytest.approx(max(28672, (64 + 8) * 64 + 56 * 16, 3584) / 1e12)


@pytest.mark.slow
def test_it_runs(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "rehearsal.py"), "--quick", "--output", str(tmp_path / "r.json")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert len(rows) == 7
    assert all(row["restored"] == 1 and row["oracle_error"] < 0.01 for row in rows)
