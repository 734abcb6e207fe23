"""`asymrnr-tune pull`: an artifact from the Hugging Face hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tuner.commands.validation import require_writable


def pull(
    place: Annotated[str, typer.Argument(metavar="OWNER/NAME[@VERSION]", help="Version: a number, or a commit.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write, .json.")] = None,
) -> None:
    """Download an artifact, hold its files against their checksums, and say what it claims."""
    if output is not None:
        require_writable(output, ".json")
    from asymrnr.artifact_io import load_artifact
    from asymrnr.hub import FILE_NAME, Place, fetch

    found = fetch(Place.named(place))
    path = found.paths[FILE_NAME]
    artifact = load_artifact(path)
    if output is not None:
        path = Path(shutil.copyfile(path, output))
    kind = "certified" if artifact.certified else "not certified"
    version = "" if found.version is None else f", version {found.version}"
    Console().print(f"{path}: {artifact.model.repo}, {kind}{version}, commit {found.commit}", soft_wrap=True)
