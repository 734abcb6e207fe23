"""The report of a run: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from matplotlib.figure import Figure

from tuner.report.video import write_mp4

DIFFERENCE_GAIN = 4


@dataclass(frozen=True)
class Comparison:
    """A held-out prompt's videos without and with the schedule, (frames, 3, height, width) in [0, 1]."""

    caption: str
    baseline: torch.Tensor
    tuned: torch.Tensor


@dataclass(frozen=True)
class RunReport:
    """What a report shows.

    Attributes:
        title: headline.
        certified: whether the certificate was given.
        verdict: one sentence.
        facts: name to text, the closing table.
        gates: objects with name, verdict, value, threshold and message.
        figures: heading to figure, in order; the heading is what the reader should look for.
        comparisons: videos side by side.
        compared: objects with name, speedup, psnr and note: the alternatives on one held-out prompt.
        ledger: rows of the ledger.
        environment: machine and versions.
        command: how to do it again.
    """

    title: str
    certified: bool
    verdict: str
    facts: Mapping[str, str]
    gates: Sequence[Any]
    figures: Mapping[str, Figure]
    comparisons: Sequence[Comparison]
    compared: Sequence[Any]
    ledger: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any]
    command: str


def _svg(figure: Figure) -> Markup:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return Markup(text[text.index("<svg") :])


def _mp4(video: torch.Tensor) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        write_mp4(video, path)
        return base64.b64encode(path.read_bytes()).decode()


def render_report(report: RunReport) -> str:
    """The HTML of a report, with pictures and videos inside."""
    environment = Environment(
        loader=PackageLoader("tuner.report"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
    )
    videos = []
    for pair in report.comparisons:
        difference = ((pair.tuned - pair.baseline).abs() * DIFFERENCE_GAIN).clamp(0, 1)
        named = {"unaccelerated": pair.baseline, "tuned": pair.tuned, f"difference x{DIFFERENCE_GAIN}": difference}
        videos.append((pair.caption, {name: _mp4(video) for name, video in named.items()}))
    return environment.get_template("report.html.j2").render(
        report=report, figures={heading: _svg(figure) for heading, figure in report.figures.items()}, videos=videos
    )
