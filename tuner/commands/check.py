"""`asymrnr-tune check`: what artifacts claim, and whether that got worse; nothing is measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from asymrnr.artifact import Artifact
    from tuner.check.comparison import Comparison

Format = Literal["text", "markdown", "json", "predicate", "outputs"]


def check(
    artifacts: Annotated[list[Path], typer.Argument(metavar="ARTIFACT", help="Artifact files.")],
    against: Annotated[
        Path | None, typer.Option(metavar="OLD", help="Artifact that the (only) one is compared with.")
    ] = None,
    output_format: Annotated[
        Format,
        typer.Option(
            "--format",
            help="For people; for a job summary; for programs; for an attestation; for outputs of GitHub Actions.",
        ),
    ] = "text",
) -> None:
    """Say what artifacts claim; a damaged one ends with exit code 2, one without a certificate with 4, worse with 8."""
    from asymrnr.artifact_io import load_artifact
    from tuner.check.comparison import compare
    from tuner.check.rendering import as_json, as_outputs, as_predicate, markdown
    from tuner.errors import QualityGateError, UsageError, WorseError

    if against is not None and len(artifacts) > 1:
        raise UsageError("--against compares one artifact; check the others by themselves.")
    loaded = {str(path): load_artifact(path, policy="off") for path in artifacts}
    (first, *_) = loaded.values()
    comparison = None if against is None else compare(load_artifact(against, policy="off"), first)
    match output_format:
        case "text":
            _show(loaded, comparison)
        case "markdown":
            typer.echo(markdown(loaded, comparison))
        case "json":
            typer.echo(as_json(loaded, comparison))
        case "predicate":
            typer.echo(as_predicate(loaded))
        case "outputs":
            typer.echo(as_outputs(loaded))
    uncertified = [name for name, artifact in loaded.items() if not artifact.certified]
    if uncertified:
        raise QualityGateError(f"No certificate: {', '.join(uncertified)}; tune or certify again.")
    if comparison is not None and comparison.worse:
        worse = "; ".join(f"{c.name} {c.quantity} {c.before} before, {c.after} now" for c in comparison.worse)
        raise WorseError(f"Worse than {against} beyond uncertainty: {worse}.")


def _show(artifacts: dict[str, Artifact], comparison: Comparison | None) -> None:
    from tuner.check.rendering import CHANGES_HEAD, CLAIMS_HEAD, changes_rows, claims_rows, subject

    console = Console()
    for name, artifact in artifacts.items():
        table = Table(*CLAIMS_HEAD, title=f"{name}\n{subject(artifact)}", title_justify="left")
        for row in claims_rows(artifact):
            table.add_row(*row)
        console.print(table)
    if comparison is not None:
        table = Table(*CHANGES_HEAD, title="against before", title_justify="left")
        for row in changes_rows(comparison):
            table.add_row(*row)
        console.print(table)
        for sentence in comparison.settings:
            console.print(f"- {sentence}", highlight=False)
