"""Pictures that videos start from: which one goes with which prompt, and what they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from tuner.errors import UsageError

SEPARATOR = "|"
LINE = f"IMAGE {SEPARATOR} PROMPT"


def pictured(lines: Sequence[str], folder: Path) -> dict[str, Path]:
    """The picture of every prompt, from lines that say IMAGE | PROMPT.

    Args:
        lines: of a file of prompts.
        folder: of that file; pictures are named relative to it.

    Raises:
        UsageError: a line says something else, or a prompt has two pictures.
    """
    found: dict[str, Path] = {}
    for line in lines:
        image, separator, prompt = (part.strip() for part in line.partition(SEPARATOR))
        if not (image and separator and prompt):
            raise UsageError(f"--prompts says '{line:.60}', but the model starts from pictures; write {LINE}.")
        path = folder / image
        if found.setdefault(prompt, path) != path:
            raise UsageError(f"--prompts gives '{prompt:.60}' two pictures; word the prompts differently.")
    return found


def hashes(images: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 (hex) of the file of every prompt's picture, each of which can be opened.

    Raises:
        UsageError: a file is missing or no picture.
    """
    return {prompt: _hash(path) for prompt, path in images.items()}


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


def _hash(path: Path) -> str:
    open_image(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()
