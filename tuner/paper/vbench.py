"""Hands videos over to VBench (Huang et al. 2024) and adds up what its tool says.

VBench pins old libraries and many weights, so its own tool is run elsewhere: `write_videos` writes what it reads,
`read_scores` reads what it writes, and `aggregate` gives the scores of the paper's tables.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import imageio.v2 as imageio
import torch

from tuner.errors import UsageError
from tuner.report.video import to_pixels

# Lowest and highest raw score, with which VBench scales every dimension to [0, 1], the weights of the dimensions and
# of the two groups: scripts/constant.py of VBench. They turn the paper's Table 11 into its Table 1.
RANGES: dict[str, tuple[float, float]] = {
    "subject_consistency": (0.1462, 1.0),
    "background_consistency": (0.2615, 1.0),
    "temporal_flickering": (0.6293, 1.0),
    "motion_smoothness": (0.706, 0.9975),
    "dynamic_degree": (0.0, 1.0),
    "aesthetic_quality": (0.0, 1.0),
    "imaging_quality": (0.0, 1.0),
    "object_class": (0.0, 1.0),
    "multiple_objects": (0.0, 1.0),
    "human_action": (0.0, 1.0),
    "color": (0.0, 1.0),
    "spatial_relationship": (0.0, 1.0),
    "scene": (0.0, 0.8222),
    "appearance_style": (0.0009, 0.2855),
    "temporal_style": (0.0, 0.364),
    "overall_consistency": (0.0, 0.364),
}
QUALITY = tuple(RANGES)[:7]
SEMANTIC = tuple(RANGES)[7:]
WEIGHTS = {name: 0.5 if name == "dynamic_degree" else 1.0 for name in RANGES}
QUALITY_WEIGHT, SEMANTIC_WEIGHT = 4.0, 1.0

_FORBIDDEN = '/\\:*?"<>|\0'


@dataclass(frozen=True)
class VBenchScores:
    """Aggregated scores in [0, 1]; `total` is what the paper's tables call VBench."""

    quality: float
    semantic: float
    total: float


def video_path(folder: Path, prompt: str, index: int) -> Path:
    """`PROMPT-INDEX.mp4`, by which VBench finds the videos of a prompt.

    Raises:
        UsageError: the prompt cannot be part of a file name.
    """
    if not prompt.strip() or any(character in prompt for character in _FORBIDDEN):
        raise UsageError(f"The prompt '{prompt}' cannot be the file name that VBench expects.")
    return folder / f"{prompt}-{index}.mp4"


def write_videos(videos: Iterable[tuple[str, torch.Tensor]], folder: Path, fps: int) -> list[Path]:
    """Write videos as VBench reads them; the videos of one prompt are numbered in the order given.

    Args:
        videos: prompt and video, (frames, 3, height, width) in [0, 1].
        folder: for all of them.
        fps: frames per second.

    Returns:
        The files written.

    Raises:
        UsageError: a prompt cannot be part of a file name, or the folder cannot be written.
    """
    counts: dict[str, int] = {}
    paths = []
    for prompt, video in videos:
        path = video_path(folder, prompt, counts.get(prompt, 0))
        counts[prompt] = counts.get(prompt, 0) + 1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            frames = list(to_pixels(video, min_height=0))  # in their own size
            imageio.mimwrite(path, frames, format="FFMPEG", fps=fps, codec="libx264", quality=9, macro_block_size=2)
        except OSError as error:
            raise UsageError(f"The video {path} cannot be written: {error.strerror or error}.") from None
        paths.append(path)
    return paths


def read_scores(path: Path) -> dict[str, float]:
    """Raw scores by dimension from a result file of VBench, `{dimension: [score, details of every video]}`.

    Raises:
        UsageError: the file cannot be read, or is no result of VBench.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The VBench result {path} cannot be read: {error.strerror or error}.") from None
    except ValueError:
        raise UsageError(f"The VBench result {path} is not valid JSON.") from None
    if not isinstance(document, dict) or not document:
        raise UsageError(f"{path} is no VBench result; it must be an object with one entry per dimension.")
    scores = {}
    for name, entry in document.items():
        score = entry[0] if isinstance(entry, list) and entry else entry
        if name not in RANGES or type(score) not in (int, float) or not math.isfinite(score):
            raise UsageError(f"{path} is no VBench result: its entry '{name}' is no score of a VBench dimension.")
        scores[name] = float(score)
    return scores


def aggregate(scores: Mapping[str, float]) -> VBenchScores:
    """Normalise every dimension, average the groups with VBench's weights, and weigh quality 4 to 1.

    Args:
        scores: raw scores of all 16 dimensions.

    Raises:
        UsageError: dimensions are missing.
    """
    missing = [name for name in RANGES if name not in scores]
    if missing:
        raise UsageError(f"VBench's total needs all {len(RANGES)} dimensions; {', '.join(missing)} are missing.")

    def group(names: tuple[str, ...]) -> float:
        total = sum(WEIGHTS[name] * _normalised(name, scores[name]) for name in names)
        return total / sum(WEIGHTS[name] for name in names)

    quality, semantic = group(QUALITY), group(SEMANTIC)
    total = (QUALITY_WEIGHT * quality + SEMANTIC_WEIGHT * semantic) / (QUALITY_WEIGHT + SEMANTIC_WEIGHT)
    return VBenchScores(quality, semantic, total)


def _normalised(name: str, score: float) -> float:
    low, high = RANGES[name]
    return (score - low) / (high - low)
