"""The table of the embedded models says what was kept of them."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from asymrnr.shipped import load_shipped
from tests.benchmarks.test_alternatives import HEAD, pairs
from tuner.models import REGISTRY
from tuner.search.space import load_space_of


def written(folder: Path, rows: list[Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The document's lines."""
    from beds import main

    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["beds.py", folder, "--document", folder / "beds.md"]
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in arguments])
    main()
    return (folder / "beds.md").read_text().splitlines()


def test_a_row_for_every_certified_and_every_tuned_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [HEAD, *pairs("tuned", "a", 1.5, 1e-4), *pairs("heuristic (Appendix B)", "for 1.6x", 1.6, 4e-3)]
    rows += [
        *pairs("PAB", "careful", 1.4, 1e-5),
        *pairs("PAB", "bold", 2.0, 1e-3),
        *pairs("MagCache", "0.1", 1.6, 3e-4),
    ]
    rows += pairs("uniform memory", "slow", 1.3, 1e-6)
    lines = written(tmp_path, rows, monkeypatch)
    evidence = load_shipped("tiny-cogvideox", "30-steps").at(1.35).evidence
    assert evidence is not None
    measured = f"{evidence.speedup.point:.3f}x | {evidence.speedup.lower_bound_95:.3f}x"
    start = "| tiny-cogvideox | 30-steps | 1.35x | "
    assert sum(line.startswith(start) and measured in line for line in lines) == 1
    assert any(line.startswith("| tiny-wan | 20-steps | 1.3x | ") for line in lines)
    (against,) = (line for line in lines if line.startswith("| tiny-cogvideox, 30 steps | a | "))
    cells = [cell.strip() for cell in against.strip("|").split("|")]
    assert cells[2:4] == ["1.500x", "40.0"]
    assert cells[4].startswith("40 (")
    assert cells[5:8] == ["-", "-", "-"]  # none is as fast
    assert cells[8].startswith("0.24 (")  # a fifth of the way from the careful setting to the bold one, in logarithms
    assert cells[8].endswith(", PAB")
    assert "| tiny-cogvideox, 30 steps | PAB | 46.1 | 30.0 |" in lines
    assert "| tiny-cogvideox, 30 steps | MagCache | 35.2 | - |" in lines
    known = load_space_of(REGISTRY["tiny-cogvideox"]).rank_correlation
    assert known is not None
    measured = f"tiny-cogvideox {known['value']:.3f} ({known['low']:.3f} to {known['high']:.3f})"
    assert f"Spearman (95 %): {measured}" in " ".join(lines)  # the document and the search space say the same


def test_a_missing_folder_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from beds import main

    monkeypatch.setattr(sys, "argv", ["beds.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="There are no results"):
        main()


def test_videos_of_more_prompts_count_where_they_are_of_the_same_model_and_workload(tmp_path: Path) -> None:
    from beds import load_bed

    def kept_in(name: str, *rows: dict[str, Any]) -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path / name

    other = {**HEAD, "subject": {**HEAD["subject"], "workload": {**HEAD["subject"]["workload"], "steps": 7}}}
    videos = [{**row, "kind": "video", "mse": 1e-2, "device": "cpu"} for row in pairs("tuned", "a", 1.0, 1e-2)]
    timed = kept_in("timed", HEAD, *pairs("tuned", "a", 1.5, 1e-4))
    errors = [kept_in("same", HEAD, *videos), kept_in("other", other, *videos, *videos)]
    [method] = load_bed(timed, errors).methods
    assert method.judged == method.videos
    assert len(method.videos) == len(videos)
    assert method.log_speedup == pytest.approx(math.log(1.5))
    [method] = load_bed(timed).methods
    assert method.judged == method.pairs
    with pytest.raises(SystemExit, match="There are no results"):
        load_bed(timed, [tmp_path])


def test_only_the_settings_that_were_added_later_are_named() -> None:
    from alternatives_report import document

    mag, first = pairs("MagCache", "threshold 0.12", 1.5, 1e-4), pairs("FirstBlockCache", "threshold 0.15", 1.5, 1e-4)
    assert "but for" not in document([HEAD, *mag], "the command", 0, "figure.svg")
    said = " ".join(document([HEAD, *mag, *first], "the command", 0, "figure.svg").split())
    assert "measured, but for FirstBlockCache's threshold 0.15, added because it lay close." in said
