"""The counter hits the paper's FLOPs with the published similarity tables and nothing fitted but Mochi's text."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asymrnr.schedule import Schedule
from asymrnr.shipped import load
from benchmarks.paper_flops import PETA, Row, paper_rows
from tuner.paper.architectures import ARCHITECTURES
from tuner.paper.counter import count_flops

TOLERANCE = 0.0015
MOCHI = {None: 35.877, "paper-base": 32.086, "paper-fast": 31.583}
CONTRADICTORY = ("6", "s = 2")
"""Contradicts the paper's other rows of Table 6 by 1.3 %; see the test about it."""


@pytest.fixture(scope="module")
def rows(reference: Path) -> list[Row]:
    return list(paper_rows(reference))


def test_every_row_of_the_paper_is_met(rows: list[Row]) -> None:
    assert {row.table for row in rows} == {"1", "2", "6", "7", "9"}
    assert len(rows) == 17 + 6 + 5 + 6
    missed = [row for row in rows if abs(row.deviation) > TOLERANCE]
    assert [(row.table, row.label) for row in missed] == [CONTRADICTORY]


def test_the_row_missed_contradicts_the_papers_own_table(rows: list[Row]) -> None:
    """Matchings at s = 1 and s = 5 cost 40 windows; 15 windows above s = 5 lies s = 2, by our count and by latency."""
    table = {row.label: row for row in rows if row.table == "6"}
    window = (table["s = 1"].paper - table["s = 5"].paper) / 40
    expected = table["s = 5"].paper + 15 * window
    assert table["s = 2"].computed == pytest.approx(expected, rel=0.001)
    assert table["s = 2"].paper > 1.01 * expected
    assert table["s = 3"].paper == pytest.approx(table["s = 5"].paper + 7 * window, rel=0.001)


def test_hunyuanvideo_would_be_further_off_with_the_matching(rows: list[Row]) -> None:
    reduced = [row for row in rows if row.model in {"hunyuanvideo", "fastvideo-hunyuan"} and row.label != "baseline"]
    for row in reduced:
        assert (row.count.flops + row.count.matching_flops) / PETA / row.paper - 1 > 0.003


@pytest.mark.parametrize("attended", [1, 128])
def test_mochis_prompt_length_matters_little(attended: int) -> None:
    architecture = replace(ARCHITECTURES["mochi"], attended_text=attended)
    for target, paper in MOCHI.items():
        flops = count_flops(architecture, load("mochi", target) if target else None).flops
        assert flops / PETA == pytest.approx(paper, rel=0.004)


@pytest.mark.parametrize("model", ["cogvideox-2b", "hunyuanvideo", "wan-1.3b"])
def test_attention_is_what_dropping_keys_takes_from(model: str) -> None:
    """Half of the video's keys are half of what its tokens cost in attention; nothing else becomes less."""
    a = ARCHITECTURES[model]
    half = Schedule({"V": np.full((len(a.blocks), a.steps), 0.5)}, stride=(2, 2, 2), cache_step=1)
    count, tokens = count_flops(a, half), math.prod(a.grid)
    expected = count.attention_flops * (tokens - tokens // 2) / (tokens + a.attended_text)
    assert count.baseline_flops - count.flops == pytest.approx(expected, rel=1e-9)
