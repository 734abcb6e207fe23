"""The report of a run: one HTML file that needs nothing else."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from matplotlib.figure import Figure

from tuner.report.captions import CAPTIONS
from tuner.report.chart import Chart
from tuner.report.film import MAX_BYTES, TILES, Comparison, film
from tuner.report.finalists import Finalist
from tuner.report.glossary import GLOSSARY, anchor, linked
from tuner.report.prompt_rows import PromptRow

INK = "#000000"  # what matplotlib draws axes and letters with


@dataclass(frozen=True)
class RunReport:
    """What a report shows.

    Attributes:
        title: headline.
        certified: whether the certificate was given.
        verdict: one sentence.
        headline: name to a figure and what it is about: what was asked and what came out.
        snippets: name to lines that use the schedule; empty where there is none.
        speeds: denoising speed-ups that the artifact has schedules for.
        facts: name to text, the closing table.
        gates: objects with name, verdict, value, threshold and message.
        prompts: what was measured on every prompt.
        figures: heading to figure, in order; the heading is what the reader should look for.
        charts: heading to a chart that takes the place of the figure.
        finalists: schedules that were tried.
        comparisons: videos side by side.
        fps: their frames per second.
        compared: objects with name, speedup, psnr and note: the alternatives on one held-out prompt.
        ledger: rows of the ledger.
        environment: machine and versions.
        command: how to do it again.
    """

    title: str
    certified: bool
    verdict: str
    headline: Mapping[str, tuple[str, str]]
    snippets: Mapping[str, str]
    speeds: Sequence[float]
    facts: Mapping[str, str]
    gates: Sequence[Any]
    prompts: Sequence[PromptRow]
    figures: Mapping[str, Figure]
    charts: Mapping[str, Chart]
    finalists: Sequence[Finalist]
    comparisons: Sequence[Comparison]
    fps: int
    compared: Sequence[Any]
    ledger: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]
    command: str


def inline_svg(figure: Figure) -> Markup:
    """A figure without background, drawn in the colour of the text around it: for light pages and for dark ones."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return Markup(text[text.index("<svg") :].replace(INK, "currentColor"))


def render_report(report: RunReport) -> str:
    """The HTML of a report, with pictures and videos inside."""
    environment = Environment(
        loader=PackageLoader("tuner.report"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(linked=linked, anchor=anchor)
    limit = MAX_BYTES / max(1, len(report.comparisons))
    return environment.get_template("report.html.j2").render(
        report=report,
        figures={
            heading: None if heading in report.charts else inline_svg(figure)
            for heading, figure in report.figures.items()
        },
        captions=CAPTIONS,
        films=[film(pair, report.fps, limit) for pair in report.comparisons],
        tiles=TILES,
        glossary=GLOSSARY,
    )
