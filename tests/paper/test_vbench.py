"""VBench: the layout of its videos, its result files, and the scores made of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import imageio.v2 as imageio
import pytest
import torch

from tuner.errors import UsageError
from tuner.paper.vbench import QUALITY, RANGES, SEMANTIC, aggregate, read_scores, write_videos

# Table 11 of the paper, the unaccelerated CogVideoX-2B; Table 1 gives its total.
COGVIDEOX_2B = {
    "subject_consistency": 0.9168,
    "background_consistency": 0.9390,
    "temporal_flickering": 0.9711,
    "motion_smoothness": 0.9721,
    "dynamic_degree": 0.6944,
    "aesthetic_quality": 0.6334,
    "imaging_quality": 0.6147,
    "object_class": 0.8505,
    "multiple_objects": 0.6502,
    "human_action": 0.9400,
    "color": 0.8776,
    "spatial_relationship": 0.6587,
    "scene": 0.5378,
    "appearance_style": 0.2514,
    "temporal_style": 0.2569,
    "overall_consistency": 0.2697,
}
COGVIDEOX_2B_TOTAL = 0.8008


def test_the_papers_dimensions_give_the_papers_total() -> None:
    assert aggregate(COGVIDEOX_2B).total == pytest.approx(COGVIDEOX_2B_TOTAL, abs=5e-5)


def test_groups_are_averages_of_normalised_scores() -> None:
    best = {name: high for name, (_, high) in RANGES.items()}
    worst = {name: low for name, (low, _) in RANGES.items()}
    assert (aggregate(best).quality, aggregate(best).semantic) == pytest.approx((1.0, 1.0))
    assert aggregate(worst).total == pytest.approx(0.0)
    without_motion = best | {"dynamic_degree": 0.0}  # counts half: 0.5 of 6.5
    assert aggregate(without_motion).quality == pytest.approx(1 - 0.5 / 6.5)
    without_colour = best | {"color": 0.0}
    assert aggregate(without_colour).total == pytest.approx((4 + 8 / 9) / 5)
    assert (len(QUALITY), len(SEMANTIC)) == (7, 9)


def test_constants_are_the_published_ones() -> None:
    beside = Path(__file__).parents[2].parent / "shared" / "reference"
    path = Path(os.environ.get("ASYMRNR_REFERENCE", beside)) / "vbench_normalisation.json"
    if not path.is_file():
        pytest.skip("the published constants are not here; set ASYMRNR_REFERENCE")
    reference = json.loads(path.read_text())
    assert {name: tuple(limits) for name, limits in reference["min_max"].items()} == RANGES
    assert (list(QUALITY), list(SEMANTIC)) == (reference["quality_dimensions"], reference["semantic_dimensions"])


def test_results_are_read_as_the_tool_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "results_eval_results.json"
    path.write_text(json.dumps({name: [score, [{"video_path": "x.mp4"}]] for name, score in COGVIDEOX_2B.items()}))
    assert read_scores(path) == COGVIDEOX_2B


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"colour": [0.5, []]}', '{"color": []}', '{"color": "0.5"}', '{"color": [NaN, []]}']
)
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"result\.json"):
        read_scores(path)


def test_a_total_needs_every_dimension() -> None:
    with pytest.raises(UsageError, match="color"):
        aggregate({name: score for name, score in COGVIDEOX_2B.items() if name != "color"})


def test_videos_are_named_by_prompt_and_number_and_keep_their_size(tmp_path: Path) -> None:
    video = torch.zeros(4, 3, 32, 48)
    video[:, 0] = 1.0
    paths = write_videos([("a dog", video), ("a cat", video), ("a dog", video)], tmp_path / "videos", fps=8)
    assert [path.name for path in paths] == ["a dog-0.mp4", "a cat-0.mp4", "a dog-1.mp4"]
    frames = imageio.mimread(paths[2])
    assert len(frames) == 4
    assert frames[0].shape == (32, 48, 3)
    assert frames[0][..., 0].mean() > 200 > 60 > frames[0][..., 1].mean()


@pytest.mark.parametrize("prompt", ["../escape", "a/b", " ", "what?"])
def test_prompts_that_are_no_file_names_are_refused(prompt: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be the file name"):
        write_videos([(prompt, torch.zeros(2, 3, 32, 32))], tmp_path, fps=8)
