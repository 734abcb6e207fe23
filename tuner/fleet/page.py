"""The summary page of a plan: one row a run, with links to the reports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from asymrnr.durable import write_durably
from tuner.fleet.states import SUMMARY_FILE, State

PAGE_FILE = "index.html"


def write_page(folder: Path, states: Mapping[str, State]) -> Path:
    """Write the page beside the summary; returns its path."""
    environment = Environment(
        loader=PackageLoader("tuner.report"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    certified = sum(state.exit_code == 0 for state in states.values())
    text = environment.get_template("fleet.html.j2").render(
        states=list(states.values()), certified=certified, name=folder.name, summary=SUMMARY_FILE
    )
    path = folder / PAGE_FILE
    write_durably(path, text.encode())
    return path
