"""A pair's videos side by side in one film: what is one film cannot drift apart."""

from __future__ import annotations

import base64
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from tuner.report.video import QUALITY, write_mp4

DIFFERENCE_GAIN = 4
TILES = ("plain", "tuned", f"difference x{DIFFERENCE_GAIN}")
MAX_HEIGHT = 480
LEAST_QUALITY = 2.0
HALVES = 1.0  # quality, from 0 to 10, that about halves the bytes
MAX_BYTES = 12_000_000  # of all films of a report; as text in the page they take a third more


@dataclass(frozen=True)
class Comparison:
    """A held-out prompt's videos without and with the schedule, (frames, 3, height, width) in [0, 1].

    Attributes:
        prompt, seed: of both.
        label: what was measured of them, in a few words.
        plain, tuned: the videos.
    """

    prompt: str
    seed: int
    label: str
    plain: torch.Tensor
    tuned: torch.Tensor


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


def film(pair: Comparison, fps: int, limit: float = MAX_BYTES) -> Film:
    """Encode a pair, as well as a limit of bytes allows.

    Args:
        pair: the videos.
        fps: frames per second.
        limit: of bytes; at the least quality a film may be larger.
    """
    difference = ((pair.tuned - pair.plain).abs() * DIFFERENCE_GAIN).clamp(0, 1)
    tiles = torch.cat([_smaller(video) for video in (pair.plain, pair.tuned, difference)], dim=-1)
    aspect, quality = tiles.shape[-1] / len(TILES) / tiles.shape[-2], QUALITY
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        while True:
            write_mp4(tiles, path, fps, quality)
            data = path.read_bytes()
            if len(data) <= limit or quality == LEAST_QUALITY:
                break
            quality = max(LEAST_QUALITY, quality - HALVES * max(0.5, math.log2(len(data) / limit)))
    return Film(pair.prompt, pair.seed, pair.label, base64.b64encode(data).decode(), len(tiles), fps, aspect)


def _smaller(video: torch.Tensor) -> torch.Tensor:
    """At most `MAX_HEIGHT` pixels high, and even in both directions."""
    height, width = video.shape[-2:]
    scale = min(1.0, MAX_HEIGHT / height)
    size = [2 * round(side * scale / 2) for side in (height, width)]
    return video if size == [height, width] else F.interpolate(video, size=size, mode="area")
