"""Videos that other videos start from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from tuner.errors import UsageError


def open_video(path: Path, frames: int) -> list[Image.Image]:
    """The first frames of a video, in RGB.

    Args:
        path: a file that ffmpeg or Pillow reads.
        frames: how many.

    Raises:
        UsageError: the file is missing, no video, or too short.
    """
    if not path.is_file():
        raise UsageError(f"The video {path} cannot be read: there is no such file.")
    try:
        found = [Image.fromarray(frame).convert("RGB") for frame in islice(_frames(path), frames)]
    except Exception as error:  # of imageio's plugins, each of its own kinds
        raise UsageError(f"{path} is no video that can be read; save it as MP4.") from error
    if len(found) < frames:
        raise UsageError(f"The video {path} has {len(found)} frames, but {frames} are needed; give a longer one.")
    return found


def _frames(path: Path) -> Iterator[Any]:
    import imageio.v3 as iio

    plugin = "pillow" if path.suffix.lower() in (".gif", ".webp", ".png") else "FFMPEG"
    yield from iio.imiter(path, plugin=plugin)
