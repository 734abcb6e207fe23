"""Pictures or videos that videos start from: which one goes with which prompt, and what they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from PIL import Image, ImageOps, UnidentifiedImageError

from tuner.errors import UsageError
from tuner.models.videos import open_video

SEPARATOR = "|"
Kind = Literal["picture", "video"]
LINES: dict[Kind, str] = {"picture": f"IMAGE {SEPARATOR} PROMPT", "video": f"VIDEO {SEPARATOR} PROMPT"}


def paired(lines: Sequence[str], folder: Path, kind: Kind) -> dict[str, Path]:
    """The picture or video of every prompt, from lines that say IMAGE | PROMPT or VIDEO | PROMPT.

    Args:
        lines: of a file of prompts.
        folder: of that file; other files are named relative to it.
        kind: what the model starts from.

    Raises:
        UsageError: a line says something else, or a prompt has two files.
    """
    found: dict[str, Path] = {}
    for line in lines:
        image, separator, prompt = (part.strip() for part in line.partition(SEPARATOR))
        if not (image and separator and prompt):
            raise UsageError(f"--prompts says '{line:.60}', but the model starts from {kind}s; write {LINES[kind]}.")
        path = folder / image
        if found.setdefault(prompt, path) != path:
            raise UsageError(f"--prompts gives '{prompt:.60}' two {kind}s; word the prompts differently.")
    return found


def hashes(files: Mapping[str, Path], kind: Kind, frames: int) -> dict[str, str]:
    """SHA-256 (hex) of the file of every prompt's picture or video, each of which can be opened.

    Args:
        files: by prompt.
        kind: what they hold.
        frames: that videos need to have.

    Raises:
        UsageError: a file is missing, holds something else, or too few frames.
    """
    return {prompt: _hash(path, kind, frames) for prompt, path in files.items()}


def open_image(path: Path) -> Image.Image:
    """A picture in RGB, the right way up.

    Raises:
        UsageError: the file is missing or no picture.
    """
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError:
        raise UsageError(f"{path} is no picture that can be read; save it as PNG or JPEG.") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"The picture {path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None


def _hash(path: Path, kind: Kind, frames: int) -> str:
    if kind == "picture":
        open_image(path)
    else:
        open_video(path, frames)
    return hashlib.sha256(path.read_bytes()).hexdigest()
