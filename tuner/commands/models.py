"""`asymrnr-tune models`: what can be tuned."""

from __future__ import annotations

from rich.console import Console
from rich.table import Column, Table


def models() -> None:
    """List the models and where their weights come from."""
    from tuner.models import REGISTRY, weights_status

    table = Table("model", Column("pipeline", overflow="fold"), "workload", Column("weights", overflow="fold"))
    for entry in REGISTRY.values():
        table.add_row(entry.name, entry.pipeline.__name__, str(entry.workload), weights_status(entry.weights))
    Console().print(table)
