"""The report stands alone, videos can be played, progress says what a person waits for."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from asymrnr.schedule import Schedule
from tuner.certify.gates import drift_gate, noise_gate
from tuner.report import plots
from tuner.report.console import LiveProgress
from tuner.report.html import Comparison, RunReport, render_report
from tuner.report.video import write_contact_sheet, write_mp4
from tuner.search.result import FrontierPoint, TrialRecord


@pytest.fixture
def video() -> torch.Tensor:
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def figures() -> dict[str, plots.Figure]:
    rates = {f: np.full((3, 4), 0.5) for f in ("Q", "V")}
    history = [TrialRecord(0, 1.2, float("inf"), "table", float("nan")), TrialRecord(1, 1.3, 0.2, "threshold", 0.2)]
    lines = {"table": [FrontierPoint(1.1, 0.1), FrontierPoint(1.3, 0.2)], "threshold": []}
    return {
        "schedule": plots.schedule_maps(Schedule(rates=rates, stride=(2, 2, 2), cache_step=2)),
        "search": plots.search_history(history),
        "frontier": plots.frontier(lines, [("finalist 1", 1.3, 0.2)], 1.3),
        "predicted": plots.predicted_against_measured([("finalist 1", 1.3, 1.28)]),
    }


def test_report_is_one_file_that_needs_nothing_else(video: torch.Tensor) -> None:
    html = render_report(
        RunReport(
            title="tiny <b>at</b> 1.3x",
            certified=False,
            verdict="Too slow.",
            facts={"denoising speed-up": "1.31x"},
            gates=[noise_gate(0.01), drift_gate("flicker", [1.2])],
            figures=figures(),
            comparisons=[Comparison("a red circle", video, video)],
            ledger=[{"stage": "profile", "ie": 1.4, "seconds": 12.0}],
            environment={"cpu": "x"},
            command="asymrnr-tune --model tiny",
        )
    )
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert "Not certified" in html
    assert "tiny &lt;b&gt;at" in html
    assert html.count("<svg") == 4
    assert "WARN" in html
    films = re.findall(r"data:video/mp4;base64,([^\"]+)", html)
    assert len(films) == 3
    frames = imageio.mimread(io.BytesIO(base64.b64decode(films[0])), format="mp4")
    assert len(frames) == len(video)


def test_mp4_shows_the_frames_enlarged(video: torch.Tensor, tmp_path: Path) -> None:
    smooth = torch.nn.functional.interpolate(video[..., :2, :2], size=(16, 16), mode="bilinear")
    write_mp4(smooth, tmp_path / "v.mp4", fps=8)
    frames = np.stack(imageio.mimread(tmp_path / "v.mp4"))
    assert frames.shape == (6, 256, 256, 3)
    shown = frames[:, 8::16, 8::16].transpose(0, 3, 1, 2) / 255
    assert np.abs(shown - smooth.numpy()).mean() < 0.05


def test_contact_sheet_has_a_row_per_video(video: torch.Tensor, tmp_path: Path) -> None:
    write_contact_sheet([("a", video), ("b", video)], tmp_path / "sheet.png")
    assert Image.open(tmp_path / "sheet.png").size == (6 * 16, 2 * 16)


def test_figures_are_written_as_svg_and_png(tmp_path: Path) -> None:
    plots.save_figures(figures(), tmp_path)
    assert {p.name for p in tmp_path.glob("*.png")} == {f"{n}.png" for n in figures()}
    for path in tmp_path.glob("*.svg"):
        assert ET.parse(path).getroot().tag.endswith("svg")


def test_plain_progress_names_stage_share_budget_and_best() -> None:
    out = io.StringIO()
    with LiveProgress(Console(file=out, force_terminal=False, width=200)) as progress:
        progress.stage("profile", "one observed generation")
        progress.budget(1.25, 12)
        progress._printed = -1e9
        progress.advance(3, 12, "step 3")
        progress.best("1.35x")
    text = out.getvalue()
    assert "profile" in text
    assert "25%" in text
    assert "budget 1.2/12" in text
    assert "best so far: 1.35x" in text


def test_live_progress_draws_on_a_terminal() -> None:
    out = io.StringIO()
    with LiveProgress(Console(file=out, force_terminal=True, width=100)) as progress:
        progress.stage("search")
        progress.budget(2, 12)
        progress.advance(1, 2, "trial 1")
        progress._live.refresh()
    assert "2.00 of 12 generations" in out.getvalue()
    assert "trial 1" in out.getvalue()
