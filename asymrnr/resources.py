"""Finds the shipped profiles and search spaces, in a checkout and in an installed wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def profiles_folder() -> Path:
    """Folder of the shipped artifacts, `<model>/<target>.json`."""
    return _folder("profiles")


def search_spaces_folder() -> Path:
    """Folder of the shipped search spaces, one YAML file per model family."""
    return _folder("search_spaces")


def _folder(name: str) -> Path:
    """Wheels carry the folder inside the package (pyproject.toml); in a checkout it lies at the top."""
    packaged = _PACKAGE / "_data" / name
    return packaged if packaged.is_dir() else _PACKAGE.parent / name
