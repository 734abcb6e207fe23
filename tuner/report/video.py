"""Videos and contact sheets as files. Videos are (frames, 3, height, width) in [0, 1], or as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import torch
from PIL import Image

MIN_HEIGHT = 256
QUALITY = 9.0
SHEET_FRAMES = 6


def as_unit(video: torch.Tensor) -> torch.Tensor:
    """A video in [0, 1], whether it is that or bytes."""
    return video.float() / 255 if video.dtype == torch.uint8 else video


def to_pixels(video: torch.Tensor, min_height: int = MIN_HEIGHT) -> np.ndarray:
    """(frames, height, width, 3) bytes; small videos are enlarged by a whole factor so that pixels stay sharp."""
    if video.dtype != torch.uint8:
        video = torch.stack([(frame.clamp(0, 1) * 255).round_().byte() for frame in video])
    pixels = video.permute(0, 2, 3, 1).cpu().numpy()
    factor = max(1, -(-min_height // pixels.shape[1]))
    return pixels.repeat(factor, axis=1).repeat(factor, axis=2)


def write_mp4(video: torch.Tensor, path: Path, fps: int = 8, quality: float = QUALITY) -> None:
    """Write an H.264 file that browsers play; quality from 0 to 10."""
    imageio.mimwrite(
        path, list(to_pixels(video)), format="FFMPEG", fps=fps, codec="libx264", quality=quality, macro_block_size=2
    )


def write_contact_sheet(videos: Sequence[tuple[str, torch.Tensor]], path: Path) -> None:
    """Write a PNG: one row a video, evenly spaced frames from left to right."""
    rows = []
    for _, video in videos:
        index = torch.linspace(0, len(video) - 1, SHEET_FRAMES).round().long()
        rows.append(np.concatenate(list(to_pixels(video[index], min_height=0)), axis=1))
    Image.fromarray(np.concatenate(rows, axis=0)).save(path, optimize=True)
