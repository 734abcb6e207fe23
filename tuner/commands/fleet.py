"""`asymrnr-tune fleet`: many runs from one plan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tuner.commands.options import command_line


def fleet(plan: Annotated[Path, typer.Argument(help="YAML file of models, workloads and targets.")]) -> None:
    """Tune every model of a plan for every workload and target; called again, it goes on where it was.

    Exit codes: 0 all certified, 2 bad plan, 9 some runs have no certificate (summary.json says each one's own exit
    code), 130 interrupted.
    """
    from tuner.fleet.page import PAGE_FILE
    from tuner.fleet.plan import read_plan, runs_of
    from tuner.fleet.run import carry_out
    from tuner.fleet.table import FleetTable

    read = read_plan(plan)
    runs = runs_of(read, command_line())
    try:
        with FleetTable() as table:
            carry_out(runs, read.output, table.show, table.progress_of)
    finally:
        if (read.output / PAGE_FILE).is_file():
            Console().print(f"summary in {read.output / PAGE_FILE}", highlight=False)
