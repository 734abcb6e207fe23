"""`asymrnr-tune lock`: versions of repositories written down, so that loading needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tuner.commands.validation import require_writable


def lock(
    places: Annotated[list[str], typer.Argument(metavar="OWNER/NAME[@VERSION]...", help="Repositories of the hub.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write, .lock.")] = Path("asymrnr.lock"),
) -> None:
    """Download versions into the hub client's cache, and write down their commits and checksums."""
    require_writable(output, ".lock")
    from asymrnr.lock import lock as write

    for repo, entry in write(places, output).items():
        Console().print(f"{repo}: version {entry['version']}, commit {entry['commit']}", soft_wrap=True)
