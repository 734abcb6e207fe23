"""Writes what `surrogate.py` measured: rank correlations, what every setting is worth, and a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from alternatives_report import paragraph
from frontier import psnr_of
from kept_results import Row
from matplotlib.figure import Figure
from proxies import correlation, partial_correlation

from tuner.report.plots import save_figures

if TYPE_CHECKING:
    from surrogate import Trial

OTHERS = "searched, the others"
FEWEST = 5  # schedules for a correlation


@dataclass(frozen=True)
class Shown:
    """What was predicted of a schedule, and the logarithm of its videos' typical error."""

    trial: Trial
    log_error: float


def gather(every: Sequence[Trial], rows: Sequence[Row]) -> list[Shown]:
    """Those whose videos are all there."""
    errors: dict[str, list[float]] = {}
    for row in rows:
        if row["kind"] == "video":
            errors.setdefault(row["schedule"], []).append(math.log(row["mse"]))
    most = max(map(len, errors.values()), default=0)
    return [Shown(t, float(np.mean(errors[t.name]))) for t in every if len(errors.get(t.name, ())) == most]


def once(shown: Sequence[Shown]) -> list[Shown]:
    """Every schedule once, however often it came about."""
    return list({each.trial.name: each for each in reversed(shown)}.values())


def correlations(shown: Sequence[Shown]) -> dict[str, str]:
    """Rows of the table: which schedules, and how their predictions rank them."""
    single = once(shown)
    searched = [s for s in single if s.trial.aim]
    groups = {
        "all": single,
        "searched": searched,
        "searched, some steps without their blocks": [s for s in searched if s.trial.schedule.partner is not None],
        OTHERS: [s for s in searched if s.trial.schedule.partner is None],
        "drawn at random": [s for s in single if not s.trial.aim],
    }
    found = {}
    for name, some in groups.items():
        if len(some) < FEWEST or (name == OTHERS and len(some) == len(searched)):
            continue
        loss, error, cost = np.array([(s.trial.loss, s.log_error, s.trial.speedup) for s in some]).T
        value, low, high = correlation(loss, error)
        equal = partial_correlation(loss, error, cost)
        text = "-" if equal is None else f"{equal:.2f}"
        found[name] = f"{len(some)} | {value:.2f} ({low:.2f} to {high:.2f}) | {text}"
    return found


def table(shown: Sequence[Shown]) -> list[str]:
    """PSNR of every setting's schedules, by the speed they were made for; of the kinds the one predicted best."""
    aims = sorted({s.trial.aim for s in shown if s.trial.aim})
    lines = ["| setting | " + " | ".join(f"{aim:g}x" for aim in aims) + " |", "|---|" + "---|" * len(aims)]
    for setting in dict.fromkeys(s.trial.setting for s in shown if s.trial.aim):
        cells = []
        for aim in aims:
            some = [s for s in shown if (s.trial.setting, s.trial.aim) == (setting, aim)]
            best = min(some, key=lambda s: s.trial.loss, default=None)
            cells.append("-" if best is None else f"{psnr_of(best.log_error):.1f}")
        lines.append(f"| {setting} | " + " | ".join(cells) + " |")
    return lines


def draw(shown: Sequence[Shown]) -> Figure:
    """Error of the videos against what was predicted, both logarithmic, coloured by speed."""
    figure = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = figure.add_subplot()
    single = once(shown)
    for marker, name, some in (
        ("o", "searched", [s for s in single if s.trial.aim]),
        ("x", "drawn at random", [s for s in single if not s.trial.aim]),
    ):
        if not some:
            continue
        x, y, speeds = np.array([(s.trial.loss, math.exp(s.log_error), s.trial.speedup) for s in some]).T
        points = axes.scatter(x, y, c=speeds, marker=marker, s=22, label=name, vmin=1, vmax=2.2)
    axes.set(xlabel="predicted", ylabel="MSE to the plain video", xscale="log", yscale="log")
    figure.colorbar(points, ax=axes, label="predicted speed-up")
    axes.legend(fontsize="small")
    return figure


def write(every: Sequence[Trial], rows: Sequence[Row], command: str, path: Path) -> None:
    """The document, and its figure beside it as SVG and PNG."""
    shown = gather(every, rows)
    head, videos = rows[0], [row for row in rows if row["kind"] != "head"]
    prompts, devices = {(r["prompt"], r["seed"]) for r in videos}, sorted({row["device"] for row in videos})
    text = [
        f"# Does the surrogate rank schedules as their videos do? {head['subject']['workload']['steps']} steps",
        "",
        paragraph(
            f"Written by `{command}` for {head['subject']['model']}: {len(once(shown))} schedules that restore with "
            f"memory, broadcast or leave all blocks out, on {len(prompts)} tuning prompts other than the profiled one, "
            f"generated on {', '.join(devices)}. What is predicted, by the tuner's yardstick, against the geometric "
            "mean of the mean squared errors to the plain videos. Held-out prompts were not looked at.",
        ),
        "",
        "| schedules | number | Spearman's correlation (95 %) | at equal predicted speed |",
        "|---|---|---|---|",
        *(f"| {name} | {cells} |" for name, cells in correlations(shown).items()),
        "",
        f"![error against prediction]({path.stem}.svg)",
        "",
        "## What other settings of the search are worth",
        "",
        "PSNR in dB, of the geometric mean over prompts, of the schedule that each setting predicts to be best; -",
        "where none is as fast.",
        "",
        *table(shown),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figures({path.stem: draw(shown)}, path.parent)
    path.write_text("\n".join(text) + "\n")
