"""`asymrnr-tune pull`: an artifact from the Hugging Face hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tuner.commands.validation import require_writable
from tuner.errors import UsageError


def pull(
    place: Annotated[str, typer.Argument(metavar="OWNER/NAME[@VERSION]", help="Version: a number, or a commit.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File to write, .json.")] = None,
) -> None:
    """Download an artifact, hold its files against their checksums, and say what it claims."""
    if output is not None:
        require_writable(output, ".json")
    from asymrnr.artifact_io import load_artifact
    from asymrnr.hub import FILE_NAME, Place, fetch

    parsed = Place.parse(place)
    if parsed is None:
        raise UsageError(f"'{place}' is no repository of the hub; give owner/name or owner/name@version.")
    found = fetch(parsed)
    artifact = load_artifact(found.paths[FILE_NAME])
    target = found.paths[FILE_NAME] if output is None else output
    if output is not None:
        shutil.copyfile(found.paths[FILE_NAME], output)
    kind = "certified" if artifact.certified else "not certified"
    version = "" if found.version is None else f", version {found.version}"
    Console().print(f"{target}: {artifact.model.repo}, {kind}{version}, commit {found.commit}", soft_wrap=True)
