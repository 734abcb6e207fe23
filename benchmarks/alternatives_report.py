"""Writes what `alternatives.py` measured: a table, a figure, and the best alternative to every tuned schedule."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from frontier import LEAST_ERROR, Measured, best_as_fast, by_family, frontier, measured, psnr_of
from kept_results import Row, machine_text
from lockstep_methods import typical, typical_text
from matplotlib.figure import Figure

from tuner.report.plots import save_figures

TUNED, COPIED, HEURISTIC = "tuned", "tuned, copying only", "heuristic (Appendix B)"
STARS = {TUNED: "black", COPIED: "white"}  # how they are filled
WIDTH = 116
BETWEEN = (0.12, 0.15)  # of FirstBlockCache's thresholds; added once it was seen to lie close in the widest gap
BY_HAND = "uniform"  # how their families begin
HEADER = (
    "| method | setting | speed-up (95 %) | MSE to plain (95 %) | PSNR (dB) | attributes right | attention left out "
    "| pairs | videos |"
)


def caches_among(methods: Iterable[Measured]) -> list[Measured]:
    """Those of diffusers: neither tuned, nor by hand, nor by the paper's heuristic."""
    ours = (TUNED, COPIED, HEURISTIC)
    return [method for method in methods if method.family not in ours and not method.family.startswith(BY_HAND)]


def verdicts(tuned: Measured, methods: Sequence[Measured]) -> list[str]:
    """Sentences on the best alternative of every kind at a tuned schedule's speed or above."""
    others = [method for method in methods if method.family != tuned.family and method.family != TUNED]
    kinds = {
        "of diffusers' caches": caches_among(others),
        "of schedules by hand": [m for m in others if m.family.startswith(BY_HAND)],
        "of schedules tuned to copy only": [m for m in others if m.family == COPIED],
    }
    return [verdict(tuned, some, kind) for kind, some in kinds.items() if some]


def verdict(tuned: Measured, methods: Sequence[Measured], kind: str) -> str:
    """A sentence on the best of some methods at a tuned schedule's speed or above."""
    found, name = best_as_fast(methods, tuned), f"{tuned} at {math.exp(tuned.log_speedup):.3f}x"
    if found is None:
        return f"{name}: none {kind} that was measured is as fast."
    mix, logs = found
    parts = [f"{method.name} ({math.exp(method.log_speedup):.3f}x)" for _, method in mix]
    what = f"{mix[0][1].family}, " + (parts[0] if len(parts) == 1 else f"between {parts[0]} and {parts[1]}")
    return (
        f"{name}: the best {kind} that is as fast or faster is {what}; its error is {typical_text(logs, '{:.2f}')} "
        "times that of the tuned schedule."
    )


def document(rows: list[Row], command: str, left: int, figure: str) -> str:
    """The whole document, in Markdown.

    Args:
        rows: as recorded, the first one says what for.
        command: that recorded them.
        left: pairs that are still to be measured.
        figure: file name of the figure.
    """
    workload = rows[0]["subject"]["workload"]
    methods, missing = measured(rows)
    every = [row for method in methods for row in method.pairs]
    judged = [row for method in methods for row in method.judged]
    prompts = len({(row["prompt"], row["seed"]) for row in judged})
    timed = len({(row["prompt"], row["seed"]) for row in every})
    lines = [
        f"# Tuned schedules and what else there is, {workload['steps']} steps",
        "",
        paragraph(
            f"Measured by `{command}` on {rows[0]['subject']['model']}: {prompts} held-out prompts and seeds that "
            "nothing was chosen by, each generated with every method. Speed-ups are those of denoising, over "
            f"{timed} of them, each beside the plain pipeline in lock-step. Errors are mean squared errors of a video "
            f"against the plain one of the same prompt and seed{_where(judged)}. Both are geometric means with 95 % t "
            f"intervals (an error counts as at least {LEAST_ERROR:.0e}); PSNR is that of the mean. *Does nothing*: the "
            "videos are the plain ones bit for bit, or no attention is left out and the speed-up is within noise. "
            "Schedules by hand and the settings of the caches were written down before anything was "
            f"measured{_but_for(methods)}. {machine_text(rows[0]['environment'])}. "
            f"{_disturbed(every)} {_plain(judged)}",
        ),
        "",
        *([f"Not finished: {left} pairs are left; the same command goes on.", ""] if left else []),
        f"![error against speed-up]({figure})",
        "",
        HEADER,
        "|" + "---|" * (HEADER.count("|") - 1),
        *(_line(method) for method in sorted(methods, key=lambda method: method.log_speedup)),
        *(
            f"| {row['family']} | {row['method']} | not available: {_cell(row['reason'])} |" + " |" * 6
            for row in missing
        ),
    ]
    tuned = [method for method in methods if method.family in STARS]
    if tuned:
        lines += [
            "",
            "## The best alternative to each tuned schedule",
            "",
            "Between two settings of a family the logarithm of the error is interpolated over that of the speed-up; of",
            "a family only settings count than which no other is both faster and better. The ratio is taken prompt by",
            "prompt; above 1 the tuned schedule is better.",
            "",
            *(f"- {sentence}" for method in tuned for sentence in verdicts(method, methods)),
        ]
    return "\n".join(lines) + "\n"


def paragraph(text: str) -> str:
    """Lines no longer than the document's others."""
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _where(judged: list[Row]) -> str:
    devices = sorted({row["device"] for row in judged if "device" in row})
    return f", generated without timing ({', '.join(devices)})" if devices else ""


def _but_for(methods: list[Measured]) -> str:
    """What was added later."""
    later = {f"threshold {between:g}" for between in BETWEEN}
    names = [method.name for method in methods if method.family == "FirstBlockCache" and method.name in later]
    return f", but for FirstBlockCache's {' and '.join(names)}, added because it lay close" if names else ""


def _disturbed(pairs: list[Row]) -> str:
    steps = sum(row["steps"] for row in pairs)
    aside = sum(row["disturbed"] for row in pairs)
    return f"Set aside as disturbed: {aside} of {steps} steps." if steps else ""


def _plain(pairs: list[Row]) -> str:
    right = _right(row["plain_attributes"] for row in pairs)
    return "" if right is None else f"Plain videos have {right:.1%} of the attributes right."


def _right(found: Iterable[dict[str, bool]]) -> float | None:
    values = [right for attributes in found for right in attributes.values()]
    return float(np.mean(values)) if values else None


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _line(method: Measured) -> str:
    right, errors = _right(row["attributes"] for row in method.judged), list(method.log_errors.values())
    error, decibels = typical_text(errors, "{:.1e}"), f"{psnr_of(method.log_error):.1f}"
    if method.idle:
        error, decibels = "does nothing", "-"
    cells = [method.family, method.name, typical_text(method.log_speedups, "{:.3f}x"), error, decibels]
    cells += ["-" if right is None else f"{right:.1%}", f"{np.mean([row['skipped'] for row in method.pairs]):.1%}"]
    if method.family in STARS:
        cells = [f"**{cell}**" for cell in cells]
    return f"| {' | '.join([*cells, str(len(method.pairs)), str(len(method.judged))])} |"


def draw(rows: list[Row]) -> Figure:
    """Error against measured speed-up: tuned schedules as stars, a colour a family, a line along its frontier."""
    figure = Figure(figsize=(8.5, 4.4), layout="constrained")
    axes = figure.add_subplot()
    families = by_family(method for method in measured(rows)[0] if not method.idle)
    for family, methods in families.items():
        if family in STARS:
            points = [(_span(method.log_speedups), _span(list(method.log_errors.values()))) for method in methods]
            (x, left, right), (y, low, high) = (np.array(values).T for values in zip(*points, strict=True))
            bars: dict[str, Any] = {"fmt": "*", "markersize": 12, "color": "black", "zorder": 3, "elinewidth": 0.6}
            axes.errorbar(x, y, (low, high), (left, right), label=family, markerfacecolor=STARS[family], **bars)
            continue
        (shown,) = axes.plot(*_places(methods), "o", markersize=4, label=family)
        axes.plot(*_places(frontier(methods)), color=shown.get_color(), linewidth=1)
    axes.set(xlabel="measured speed-up", ylabel="MSE to the plain video", yscale="log")
    if families:
        figure.legend(fontsize="x-small", loc="outside right upper")
    return figure


def _places(methods: Sequence[Measured]) -> np.ndarray:
    """(2, n) speed-ups and errors."""
    return np.exp([(method.log_speedup, method.log_error) for method in methods]).reshape(-1, 2).T


def _span(logs: Sequence[float]) -> tuple[float, float, float]:
    """A typical value, and how far its interval reaches below and above."""
    value, low, high = typical(logs)
    return value, value - (low or value), (high or value) - value


def write(rows: list[Row], command: str, left: int, path: Path) -> None:
    """The document, and its figure beside it as SVG and PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figures({path.stem: draw(rows)}, path.parent)
    path.write_text(document(rows, command, left, f"{path.stem}.svg"))
