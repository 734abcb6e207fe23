from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch

from asymrnr.errors import ScheduleError
from asymrnr.partition import Grid, chunk_counts, make_partition, window_seed
from asymrnr.reduction import max_rate
from tests.runtime import oracle


@pytest.mark.parametrize("coverage", ["full", "paper"])
@pytest.mark.parametrize(("grid", "stride"), [((4, 6, 6), (2, 2, 2)), ((5, 7, 9), (2, 3, 4)), ((1, 5, 5), (6, 2, 2))])
def test_equals_the_reference(grid: Grid, stride: Grid, coverage: str) -> None:
    for seed in range(3):
        part = make_partition(grid, stride, torch.Generator().manual_seed(seed), coverage)  # type: ignore[arg-type]
        destinations, sources = oracle.partition(grid, stride, seed, coverage)
        assert part.dst.tolist() == destinations
        assert part.src.tolist() == sources


def test_full_coverage_reaches_every_token_and_paper_coverage_does_not() -> None:
    reached = {"full": torch.zeros(3, dtype=torch.long), "paper": torch.zeros(3, dtype=torch.long)}
    for coverage, counts in reached.items():
        for seed in range(60):
            part = make_partition((3, 1, 1), (2, 1, 1), torch.Generator().manual_seed(seed), coverage)  # type: ignore[arg-type]
            counts[part.dst] += 1
    assert reached["full"][2] == 60  # alone in its ragged chunk
    assert reached["paper"].sum() == 60  # one chunk, at a random offset
    assert reached["paper"].min() > 0


def test_draw_is_uniform_within_chunks() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(8)
    for _ in range(4000):
        counts[make_partition((2, 2, 2), (2, 2, 2), generator).dst] += 1
    assert counts.min() > 420  # 500 expected, 4 standard deviations are 84
    assert counts.max() < 580


def test_published_destination_counts() -> None:
    # CogVideoX-2B, stride (2,2,2): 11.3 % destinations (paper table 9); Mochi (6,2,2) leaves remainder frames out.
    assert math.prod(chunk_counts((13, 30, 45), (2, 2, 2), "paper")) == 1980
    assert math.prod(chunk_counts((15, 30, 53), (6, 2, 2), "paper")) == 780
    assert max_rate(make_partition((4, 4, 4), (2, 2, 2))) == pytest.approx(0.875)


def test_seed_is_the_same_in_another_process() -> None:
    code = "from asymrnr import window_seed; print(window_seed(3, 'Q', 5, 2))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == window_seed(3, "Q", 5, 2)
    assert len({window_seed(s, f, b, w) for s in (0, 1) for f in "QV" for b in range(4) for w in range(4)}) == 64


def test_bad_input_is_refused() -> None:
    with pytest.raises(ScheduleError, match="positive integers"):
        make_partition((4, 0, 4), (2, 2, 2))
    with pytest.raises(ScheduleError, match="choose one of full, paper"):
        make_partition((4, 4, 4), (2, 2, 2), coverage="half")  # type: ignore[arg-type]
