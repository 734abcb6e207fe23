"""`asymrnr-tune solve`: schedules for several targets at once, from a profile or from a published table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tuner.commands.options import speedup_from
from tuner.commands.validation import check_targets
from tuner.errors import UsageError


def solve(
    target_speedup: Annotated[
        list[float] | None,
        typer.Option(help="One or more: --target-speedup 1.1 1.2 1.3.", metavar="X...", parser=speedup_from),
    ] = None,
    more_targets: Annotated[list[float] | None, typer.Argument(metavar="X", hidden=True, parser=speedup_from)] = None,
    profile: Annotated[Path | None, typer.Option(help="Profile that `profile` or a run wrote.")] = None,
    similarity: Annotated[
        Path | None, typer.Option(help="Published similarity table instead; speed is then counted in operations.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Model of the published table.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder for the schedules.")] = None,
) -> None:
    """Find schedules for several targets from a saved profile, in seconds and without a device.

    Nothing is measured: the schedules are not certified. Exit code 3 when no target can be met.
    """
    targets = [*(target_speedup or []), *(more_targets or [])]
    check_targets(targets)
    console = Console()
    if profile is not None and similarity is None and model is None:
        from tuner.commands.solve_profile import solve_profile, targets_table

        solved = solve_profile(profile, targets, output)
        console.print(targets_table(solved))
        console.print(f"uncertified schedules and frontier.json in {solved.folder}", highlight=False)
    elif similarity is not None and model is not None and profile is None:
        from tuner.commands import solve_published as published

        answer = published.solve_published(similarity, model, targets, output)
        console.print(published.targets_table(answer), published.comparison_table(answer), sep="\n")
        console.print(published.PROXY, highlight=False)
    else:
        raise UsageError("Give --profile, or --similarity with --model.")
