"""The shipped Table 8 profiles: their operations are the paper's, and the script still writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from asymrnr.resources import profiles_folder
from asymrnr.shipped import load
from benchmarks.make_paper_profiles import main
from benchmarks.paper_flops import COUNTS_MATCHING
from tuner.paper.architectures import ARCHITECTURES
from tuner.paper.counter import count_flops

# 1e15 operations per video: baseline, base, fast (paper, Tables 1 and 2)
PAPER = {
    "cogvideox-2b": (12.000, 10.342, 9.976),
    "cogvideox-5b": (33.220, 29.876, 29.190),
    "mochi": (35.877, 32.086, 31.583),
    "hunyuanvideo": (128.559, 104.795, 100.110),
    "fastvideo-hunyuan": (21.720, 17.746, 17.086),
}


@pytest.mark.parametrize("model", PAPER)
def test_their_operations_are_the_papers(model: str) -> None:
    schedules = [None, load(model, "paper-base"), load(model, "paper-fast")]
    for schedule, paper in zip(schedules, PAPER[model], strict=True):
        count = count_flops(ARCHITECTURES[model], schedule)
        matching = count.matching_flops if model in COUNTS_MATCHING else 0
        assert (count.flops + matching) / 1e15 == pytest.approx(paper, rel=0.001)


def test_the_script_writes_what_is_shipped(reference: Path, tmp_path: Path) -> None:
    main(reference, tmp_path)
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.glob("*/*.json"))
    assert len(written) == 10
    for path in written:
        assert (tmp_path / path).read_bytes() == (profiles_folder() / path).read_bytes()
