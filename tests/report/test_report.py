"""The report stands alone, videos can be played, progress says what a person waits for."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import imageio.v2 as imageio
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from rich.console import Console

from asymrnr.partner import Partner
from asymrnr.schedule import Schedule
from tests.report import example
from tuner.ceilings import REPORT_BYTES
from tuner.certify.statistics import estimate_speedup
from tuner.profile.distribution import DIRECTIONS, POLICIES
from tuner.profile.profile import Profile
from tuner.report import plots
from tuner.report.captions import CAPTIONS
from tuner.report.chart import frontier_chart
from tuner.report.console import LiveProgress
from tuner.report.evidence_plots import evidence
from tuner.report.film import MAX_BYTES, Comparison, film
from tuner.report.glossary import GLOSSARY, anchor, linked
from tuner.report.html import inline_svg, render_report
from tuner.report.profile_plots import profile_figures
from tuner.report.prompt_rows import prompt_rows
from tuner.report.run import _comparisons
from tuner.report.video import write_contact_sheet, write_mp4
from tuner.run.estimate import PairEstimate


def test_report_is_one_file_that_needs_nothing_else() -> None:
    html = render_report(example.report())
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert not re.search(r"@import|url\((?!#)|fetch\(|<script [^>]*src", html)
    assert "Not certified" in html
    assert "tiny &lt;b&gt;at" in html
    assert html.count("<svg") == len(example.figures())
    assert re.search(r"first-block-cache:0.1</th>\s*<td class=\"number\">1.70x</td>", html)
    assert "does nothing here" in html
    assert "WARN" in html
    assert "(1.1x, 1.3x)" in html
    assert all(f"seed {seed};" in html for seed in example.SEEDS)  # two videos of one prompt are told apart


def test_a_film_holds_plain_tuned_and_difference_side_by_side() -> None:
    plain, tuned = torch.full((6, 3, 16, 16), 0.25), torch.full((6, 3, 16, 16), 0.375)
    made = film(Comparison("p", 1, "", plain, tuned), fps=8)
    frames = np.stack(imageio.mimread(io.BytesIO(base64.b64decode(made.data)), format="mp4"))
    assert frames.shape == (made.frames, 256, 3 * 256, 3)
    assert made.aspect == 1
    shown = frames.reshape(6, 256, 3, 256, 3).mean(axis=(0, 1, 3, 4)) / 255
    np.testing.assert_allclose(shown, [0.25, 0.375, 0.5], atol=0.02)  # the difference four times


def test_films_keep_within_their_bytes_where_they_can() -> None:
    pair = Comparison("p", 1, "", example.video(), example.video(1))
    best, least = (len(film(pair, 8, limit).data) for limit in (1e9, 1))
    within = len(film(pair, 8, 0.5 * best).data)
    assert least < within < 0.5 * best * 4 / 3 < best


def test_large_videos_are_shown_smaller() -> None:
    frames = torch.zeros(2, 3, 720, 1280)
    made = film(Comparison("p", 1, "", frames, frames), fps=8)
    shape = np.stack(imageio.mimread(io.BytesIO(base64.b64decode(made.data)), format="mp4")).shape
    assert shape[1:3] == (480, 3 * 854)


def test_films_of_noise_are_made_smaller_until_they_fit() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (2, 3, 480, 640), generator=generator, dtype=torch.uint8)
    pair = Comparison("p", 1, "", noise, noise.flip(0))
    whole = film(pair, 8, 1e9)
    small = film(pair, 8, 60_000)
    assert len(small.data) < 60_000 * 4 / 3 < len(whole.data)
    assert small.aspect == pytest.approx(whole.aspect, rel=0.02)


def test_a_report_of_large_videos_stays_below_its_ceiling_and_links_them(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(5, 3, 45, 80, generator=generator)
    large = (F.interpolate(coarse, size=(720, 1280), mode="bilinear") * 255).byte()
    pairs = [SimpleNamespace(prompt="p", seed=s, plain=SimpleNamespace(pixels=large)) for s in range(2)]
    for pair in pairs:
        pair.tuned = SimpleNamespace(pixels=large.flip(0))
    ctx: Any = SimpleNamespace(options=SimpleNamespace(output=tmp_path), entry=SimpleNamespace(fps=8))
    rows: Any = [SimpleNamespace(speedup=1.2, psnr=30.0)] * 2
    comparisons = _comparisons(ctx, SimpleNamespace(pairs=pairs), rows)  # type: ignore[arg-type]
    html = render_report(replace(example.report(), comparisons=comparisons))
    assert len(html.encode()) < REPORT_BYTES
    for seed in range(2):
        for name in ("plain", "tuned"):
            assert f'href="videos/seed-{seed}-{name}.mp4"' in html
            assert (tmp_path / "videos" / f"seed-{seed}-{name}.mp4").is_file()


def test_what_a_report_embeds_leaves_room_for_the_rest_of_it() -> None:
    assert MAX_BYTES * 4 / 3 < REPORT_BYTES - 5_000_000  # as text, with figures and the page


def test_figures_are_drawn_in_the_colour_of_the_text() -> None:
    for figure in example.figures().values():
        svg = inline_svg(figure)
        assert "currentColor" in svg
        assert "#000000" not in svg
        assert "#ffffff" not in svg.lower()  # no background


def test_terms_link_where_they_come_first() -> None:
    text = linked("Two sites, a site <b> and the gap.")
    assert text.count('href="#term-site"') == 1
    assert 'href="#term-gap"' in text
    assert "&lt;b&gt;" in text
    assert linked("gaps-free websites") == "gaps-free websites"
    html = render_report(example.report())
    links, ids = (
        set(re.findall(rf'{name}="{before}(term-[^"]+)"', html)) for name, before in (("href", "#"), ("id", ""))
    )
    assert links <= ids == {anchor(term) for term in GLOSSARY}


def test_points_of_a_chart_say_their_values() -> None:
    chart = example.report().charts["Error against speed"]
    assert [series.name for series in chart.series] == ["table", "threshold", "finalists"]
    assert chart.series[0].spots[0].text == "table: 1.100x, predicted error 0.1"
    assert "predicted 1.310x before, measured 1.280x" in chart.series[-1].spots[0].text
    left, top, right, bottom = chart.frame
    places = [(spot.x, spot.y) for series in chart.series for spot in series.spots]
    assert all(left <= x <= right and top <= y <= bottom for x, y in places)
    xs, ys = zip(*places[:3], strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys, reverse=True)  # more error is higher up
    assert chart.target == places[2][0] == places[-1][0]
    assert frontier_chart({"table": []}, [], 1.3) is None


def test_every_prompt_says_what_is_worth_knowing() -> None:
    def pair(seed: int, log: float, disturbed: int, mode: str) -> Any:
        sides = {name: SimpleNamespace(video=name) for name in ("plain", "tuned")}
        found = PairEstimate(log, 0.01, disturbed, 30)
        return SimpleNamespace(prompt="p", seed=seed, denoise=found, mode=mode, **sides)

    pairs = (pair(1, 0.3, 0, "lock-step"), pair(2, 0.1, 3, "alternating"))
    quality = {"psnr": [50.0, 20.0], "ssim": [1.0, 0.5], "mse": [1e-5, 0.2]}
    drifts = {"flicker_drift": [1.0, 0.0], "sharpness_drift": [0.9, 1.5]}
    certification: Any = SimpleNamespace(pairs=pairs, quality={**quality, **drifts}, noise_floor=1.0)
    entry: Any = SimpleNamespace(attributes=lambda video, prompt: {"colour": video == "plain", "shape": True})
    first, second = prompt_rows(certification, entry, 1.2)
    assert (first.seed, first.psnr, first.change) == (1, 50.0, 1e-5)
    assert first.warnings == ("colour lost",)
    assert second.warnings == (
        *("slower than 1.2x by itself", "3 of 30 steps disturbed", "not in lock-step but alternating"),
        *("changes by more than 10%", "flicker moves by -100%", "sharpness moves by +50%", "colour lost"),
    )


def test_mp4_shows_the_frames_enlarged(tmp_path: Path) -> None:
    smooth = torch.nn.functional.interpolate(example.video()[..., :2, :2], size=(16, 16), mode="bilinear")
    write_mp4(smooth, tmp_path / "v.mp4", fps=8)
    frames = np.stack(imageio.mimread(tmp_path / "v.mp4"))
    assert frames.shape == (6, 256, 256, 3)
    shown = frames[:, 8::16, 8::16].transpose(0, 3, 1, 2) / 255
    assert np.abs(shown - smooth.numpy()).mean() < 0.05


def test_contact_sheet_has_a_row_per_video(tmp_path: Path) -> None:
    video = example.video()
    write_contact_sheet([("a", video), ("b", video)], tmp_path / "sheet.png")
    assert Image.open(tmp_path / "sheet.png").size == (6 * 16, 2 * 16)


def test_figures_are_written_as_svg_and_png(tmp_path: Path) -> None:
    plot = example.figures()["What the search tried"]
    plots.save_figures({"schedule": plot, "Error, by speed": plot}, tmp_path)
    assert {p.name for p in tmp_path.glob("*.png")} == {"schedule.png", "error-by-speed.png"}
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
    assert drawn.keys() <= CAPTIONS.keys()
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
