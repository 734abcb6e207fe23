"""The report stands alone, videos can be played, progress says what a person waits for."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from asymrnr.partner import Partner
from asymrnr.schedule import Schedule
from tuner.certify.gates import drift_gate, noise_gate
from tuner.certify.statistics import estimate_speedup
from tuner.profile.distribution import DIRECTIONS, POLICIES
from tuner.profile.profile import Profile
from tuner.report import plots
from tuner.report.console import LiveProgress
from tuner.report.evidence_plots import evidence
from tuner.report.html import Comparison, RunReport, render_report
from tuner.report.profile_plots import profile_figures
from tuner.report.video import write_contact_sheet, write_mp4
from tuner.run.estimate import PairEstimate
from tuner.search.result import FrontierPoint, TrialRecord
from tuner.stages.compare import Compared


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
            gates=[noise_gate(0.01, 0.0), drift_gate("flicker", [1.2])],
            figures=figures(),
            comparisons=[Comparison("a red circle", video, video)],
            compared=[Compared("first-block-cache:0.1", 1.7, 33.6), Compared("mag-cache", note="does nothing here")],
            ledger=[{"stage": "profile", "ie": 1.4, "seconds": 12.0}],
            environment={"cpu": "x"},
            command="asymrnr-tune --model tiny",
        )
    )
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert "Not certified" in html
    assert "tiny &lt;b&gt;at" in html
    assert html.count("<svg") == 4
    assert re.search(r"first-block-cache:0.1</th>\s*<td class=\"number\">1.70x</td>", html)
    assert "does nothing here" in html
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


@pytest.mark.parametrize(
    ("rates", "actions", "titles"),
    [
        ({"Q": [[0, 0.6, 0]], "V": [[0, 0.4, 0]]}, None, ["Q", "V"]),
        ({"Q": [[0, 0.6, 0]], "V": [[0, 0, 0]]}, [[1, 2, 0]], ["what blocks do", "Q"]),
        ({"Q": [[0, 0.6, 0]], "V": [[0, 0.4, 0]]}, [[1, 2, 3]], ["what blocks do", "Q", "V"]),
        ({"Q": [[0, 0, 0]]}, [[1, 3, 3]], ["what blocks do"]),
    ],
)
def test_maps_of_a_schedule_show_what_its_sites_do(rates: Any, actions: Any, titles: list[str], tmp_path: Path) -> None:
    tables = {feature: np.array(table) for feature, table in rates.items()}
    figure = plots.schedule_maps(Schedule(tables, actions=None if actions is None else np.array(actions)))
    maps = [axes for axes in figure.axes if axes.get_title()]
    assert [axes.get_title() for axes in maps] == titles
    assert len(figure.axes) == 2 * len(titles)  # each with its scale
    if actions is not None:
        np.testing.assert_array_equal(maps[0].images[0].get_array(), actions)
        names = [text.get_text() for text in figure.axes[-1 if len(titles) == 1 else len(titles)].get_yticklabels()]
        assert names == ["full or copied", "refresh", "memory", "broadcast", "left out"]
        assert maps[0].images[0].get_clim() == (-0.5, 4.5)  # a colour for each, whatever the table holds
    plots.save_figures({"schedule": figure}, tmp_path)
    assert (tmp_path / "schedule.png").is_file()


def test_maps_show_steps_that_a_cache_leaves_out() -> None:
    partner = Partner.planned([False, True, False, True])
    for actions, shown in ((None, [[0, 4, 0, 4]]), (np.array([[1, 0, 3, 0]]), [[1, 4, 3, 4]])):
        figure = plots.schedule_maps(Schedule({"Q": np.zeros((1, 4))}, actions=actions, partner=partner))
        np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), shown)


def test_the_evidence_shows_every_pair_and_the_bounds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sides = [SimpleNamespace(step_seconds=1 + 0.05 * rng.random(8)) for _ in range(8)]
    pairs: list[Any] = [
        SimpleNamespace(plain=plain, tuned=tuned, denoise=PairEstimate(0.1, error, 0, 8))
        for plain, tuned, error in zip(sides[:4], sides[4:], [0.01, 0.02, 0.01, np.inf], strict=True)
    ]
    for count in (1, 4):
        figure = evidence(pairs[:count], estimate_speedup([0.1, 0.12, 0.11, 0.1][:count]), 1.1)
        plots.save_figures({f"evidence {count}": figure}, tmp_path)
        labels = [text.get_text() for text in figure.axes[1].get_yticklabels()]
        assert labels == [*(f"pair {n}" for n in range(1, count + 1)), "together"]
    assert len(list(tmp_path.glob("*.png"))) == 2


def test_every_picture_of_a_profile_can_be_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sites, rates = (5, 8), np.array([0.0, 0.3, 0.8])
    names = [
        f"{f}/{policy}/{rate:g}/{direction}"
        for f in "HV"
        for policy in POLICIES
        for rate in (0.3, 0.5)
        for direction in DIRECTIONS
    ]
    curve = rng.random((*sites, 3)) * rates
    profile = Profile(
        **{"model": "m", "workload": {}, "prompt": "", "seed": 0, "schedule_seed": 0, "grid": (2, 2, 2), "heads": 1},
        **{"head_dim": 4, "text_tokens": 0, "timesteps": np.linspace(999, 1, 8), "rates": rates},
        raw_similarity={f: -rng.random(sites) for f in "HQKV"},
        similarity={f: rng.random(sites) for f in "HQKV"},
        kl={name: np.where(np.arange(8) % 4, np.nan, rng.random(sites)) for name in names},
        norm_tail={f: 1 + rng.random(sites) for f in "HQKV"},
        persistence={f"{f}/{gap}": rng.random(sites) for f in "QV" for gap in (1, 2)},
        q_error={("2x2x2", 3): curve},
        v_error={("2x2x2", 3): 2 * curve},
    )
    drawn = profile_figures(profile)
    plots.save_figures(drawn, tmp_path)
    assert len(list(tmp_path.glob("*.svg"))) == len(drawn) == 6
    bars = drawn["Sensitivity by feature, blocks and phase"].axes[0].patches
    expected = [np.sqrt(scale * curve[..., 1]).mean() for scale in (1, 2)]
    np.testing.assert_allclose([bar.get_height() for bar in bars], expected)
    q_line = drawn["Matches that stay the same over the next steps"].axes[0].lines[0].get_xydata()
    np.testing.assert_allclose(q_line[2], [2, profile.persistence["Q/2"].mean()])


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
