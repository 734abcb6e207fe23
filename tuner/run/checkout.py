"""Which version of this project's code a run was made with, where it runs from a git checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHECKOUT_KEY = {"kind": "checkout"}


def checkout(root: Path = ROOT) -> dict[str, Any]:
    """The commit, and whether files that git knows differ from it.

    Args:
        root: folder of the project.

    Returns:
        commit (40 hex digits) and dirty; nothing where the folder is no checkout, or git is not at hand.
    """
    if not (root / ".git").exists():
        return {}
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return {}


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
