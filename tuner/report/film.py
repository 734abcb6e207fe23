"""A pair's videos side by side in one film: what is one film cannot drift apart."""

from __future__ import annotations

import base64
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F

from tuner.report.video import QUALITY, as_unit, write_mp4

DIFFERENCE_GAIN = 4
TILES = ("plain", "tuned", f"difference x{DIFFERENCE_GAIN}")
HEIGHTS = (480, 320, 240, 160)  # tried in turn until a film is small enough
MAX_HEIGHT = HEIGHTS[0]
LEAST_QUALITY = 2.0
HALVES = 1.0  # quality, from 0 to 10, that about halves the bytes
MAX_BYTES = 12_000_000  # of all films of a report; as text in the page they take a third more


@dataclass(frozen=True)
class Comparison:
    """A held-out prompt's videos without and with the schedule, (frames, 3, height, width) in [0, 1] or as bytes.

    Attributes:
        prompt, seed: of both.
        label: what was measured of them, in a few words.
        plain, tuned: the videos.
        files: name to address of the videos at their own size, where the film shows them smaller.
    """

    prompt: str
    seed: int
    label: str
    plain: torch.Tensor
    tuned: torch.Tensor
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Film:
    """The tiles of `TILES` from left to right, as H.264 in base64, with what a player needs to know."""

    prompt: str
    seed: int
    label: str
    data: str
    frames: int
    fps: int
    aspect: float
    files: Mapping[str, str]


def film(pair: Comparison, fps: int, limit: float = MAX_BYTES) -> Film:
    """Encode a pair, as well as a limit of bytes allows.

    Args:
        pair: the videos.
        fps: frames per second.
        limit: of bytes; smaller and smaller films are made until one fits, but for the smallest.
    """
    quality, tallest = QUALITY, 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        while True:
            tiles = _tiles(pair, HEIGHTS[tallest])
            write_mp4(tiles, path, fps, quality)
            data = path.read_bytes()
            least = quality == LEAST_QUALITY
            if len(data) <= limit or (least and tallest == len(HEIGHTS) - 1):
                break
            tallest += least
            quality = max(LEAST_QUALITY, quality - HALVES * max(0.5, math.log2(len(data) / limit)))
    aspect, encoded = tiles.shape[-1] / len(TILES) / tiles.shape[-2], base64.b64encode(data).decode()
    return Film(pair.prompt, pair.seed, pair.label, encoded, len(tiles), fps, aspect, pair.files)


def _tiles(pair: Comparison, height: int) -> torch.Tensor:
    """(frames, 3, height, 3 widths), made frame by frame."""
    frames = []
    for plain, tuned in zip(map(as_unit, pair.plain.split(1)), map(as_unit, pair.tuned.split(1)), strict=True):
        difference = ((tuned - plain).abs() * DIFFERENCE_GAIN).clamp(0, 1)
        frames.append(torch.cat([_smaller(video, height) for video in (plain, tuned, difference)], dim=-1))
    return torch.cat(frames)


def _smaller(video: torch.Tensor, most: int) -> torch.Tensor:
    """At most so many pixels high, and even in both directions."""
    height, width = video.shape[-2:]
    scale = min(1.0, most / height)
    size = [2 * round(side * scale / 2) for side in (height, width)]
    return video if size == [height, width] else F.interpolate(video, size=size, mode="area")
