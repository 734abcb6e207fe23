"""`asymrnr-tune push`: an artifact onto the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def push(
    source: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="File of an artifact, or folder of a run.")],
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="On the hub; made where it does not exist.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
) -> None:
    """Upload an artifact as the next version of a repository, with a model card and checksums.

    The token is that of `hf auth login`, or HF_TOKEN.
    """
    from asymrnr.hub_push import push_to_hub
    from asymrnr.shipped import load_shipped

    pushed = push_to_hub(load_shipped(source), repository, private=private or None)
    Console().print(f"{pushed} is out: {pushed.url}", soft_wrap=True)
