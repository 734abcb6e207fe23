"""Reads files that somebody else may have written."""

from __future__ import annotations

import os
import stat
from pathlib import Path


class NotReadableError(OSError):
    """The path is no regular file, or too large."""


def read_regular(path: Path, most: int) -> bytes:
    """The content of a regular file, or of one that a link leads to.

    Devices and pipes, which may never end or never begin, are not waited for.

    Args:
        path: of the file.
        most: bytes that it may have.

    Raises:
        NotReadableError: it is no regular file, or has more.
        OSError: it cannot be opened or read.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotReadableError("it is no regular file")
        data = file.read(most + 1)
        if len(data) > most:
            raise NotReadableError(f"it has more than {most} bytes; is it the right file?")
        return data
