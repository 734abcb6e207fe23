"""`asymrnr-tune report`: the report of a run, written again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def report(folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")]) -> None:
    """Write the report of a run again from its measurements; nothing is measured, no model is loaded."""
    Console().print(f"report in {report_of(folder)}", highlight=False)


def report_of(folder: Path) -> Path:
    """Go through a run again with an instrument that only reads, and write its report.

    Args:
        folder: what the run was given as --output.

    Returns:
        The report's path.

    Raises:
        UsageError: the folder holds no run, or one that is not finished.
    """
    from tuner.errors import TunerError, UsageError
    from tuner.findings import Findings
    from tuner.opening import open_records
    from tuner.pipeline import go
    from tuner.report.run import write_report

    ctx, findings = open_records(folder), Findings()
    try:
        go(ctx, findings)
    except UsageError:
        raise
    except TunerError as error:  # a run that ended without a certificate has a report, too
        findings.error = error
    return write_report(ctx, findings)
