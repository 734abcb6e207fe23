"""What a command checks before any work goes into it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from tuner.errors import UsageError


def check_targets(targets: Sequence[float]) -> None:
    """Targets must ask for something.

    Raises:
        UsageError: there is none, or one is not above 1.
    """
    if not targets:
        raise UsageError("Give at least one --target-speedup, for example --target-speedup 1.1 1.2 1.3.")
    wrong = [target for target in targets if not 1 < target < math.inf]
    if wrong:
        raise UsageError(f"The target speed-up is {wrong[0]:g}; ask for more than 1, for example 1.3.")


def require_writable(path: Path, suffix: str) -> None:
    """An output file must have the right suffix, in a folder that can be written.

    Raises:
        UsageError: it has not.
    """
    if path.suffix != suffix:
        raise UsageError(f"The output {path} must end in {suffix}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):
            pass
        if path.stat().st_size == 0:
            path.unlink()
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}.") from None


def make_folder(folder: Path) -> None:
    """Create a folder for results.

    Raises:
        UsageError: it cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"The folder {folder} cannot be created: {error.strerror or error}.") from None
