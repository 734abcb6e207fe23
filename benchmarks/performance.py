"""Puts the results of the benchmarks into one document: every target, met or missed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from kept_results import machine_text
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from timing import Row, target_text

from tuner.report.plots import save_figures

TITLES = {
    "matching": "Matching",
    "gather": "Gathering and restoring",
    "site": "One attention site",
    "generation": "Whole generation",
    "prediction": "Predicted against measured generations",
    "overhead": "Installed runtime without reduction",
    "knn_kl": "Nearest-neighbour divergence",
    "bound": "Lagrangian solution and bound",
    "search_speed": "Search",
    "growth": "Growth",
    "windowed": "Windowed matching: quality",
    "stack": "Composition with Pyramid Attention Broadcast",
    "matching_tiles": "The matching kernel on a GPU",
    "full_size": "Full-size transformers",
}
"""Benchmark to heading, in the order of the document."""

EXPLANATIONS = {
    ("matching", "time / product"): "At 3k tokens a matching takes a few milliseconds, much of it the fixed cost of a "
    "dozen operations; at 128 channels the search for the minimum and the gathering of sources come on top of a "
    "product that is already bound by arithmetic.",
    ("matching", "peak memory / dense matrix"): "At 3k tokens the whole matrix is 4 MB, little more than the piece of "
    "it that fits into the cache (3 MB) and that is computed at a time.",
    ("matching", "time / dense"): "The dense way computes the same product. What it loses is memory traffic, so the "
    "gain is bounded by how slow memory is beside the cores.",
    ("site", "realised / FLOPs gain"): "Gathering, planning and matching do not shrink with the square of what is "
    "kept, and attention runs less efficiently on short sequences.",
    ("generation", "realised / predicted speed-up"): "The prediction rests on attention timed by itself and a few "
    "steps of a uniform schedule; a tuning run corrects it by every schedule it measures.",
    ("prediction", "|predicted / measured - 1|"): "The prediction rests on attention timed by itself and a few steps "
    "of a uniform schedule; its interval stands in the table. A tuning run corrects it by every schedule it measures.",
    (
        "prediction",
        "worst |predicted / measured - 1|",
    ): "Where least attention is left, what planning and gathering take "
    "weighs most, and they are timed by themselves; the median says what to expect.",
    ("full_size", "matching Q and V / attention"): "The kernel alone takes less (see the table above). Here every "
    "matching, with the drawing of its partition and the sorting of its sources, is waited for; in a model the "
    "processor runs ahead of the device, and steps took at most 3 % longer than predicted.",
    ("overhead", "time / plain"): "The scatter of whole calls is wider than what is to be seen; the interval of the "
    "median stands in the table, and what the runtime adds to a short call shows how little it is.",
}
"""Why a target may be missed, by benchmark and measure; shown where it is."""


def load_results(folder: Path) -> dict[str, dict[str, Any]]:
    """The content of every benchmark's file that is there, by benchmark."""
    paths = {name: folder / f"{name}.json" for name in TITLES}
    return {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}


def count(rows: list[Row], verdict: str) -> int:
    """Rows with a verdict."""
    return sum(row["verdict"] == verdict for row in rows)


def summary(name: str, rows: list[Row]) -> list[str]:
    """Table lines of one benchmark, one a measure with a target, with the worst value."""
    lines = []
    for measure in dict.fromkeys(row["measure"] for row in rows if row["verdict"]):
        some = [row for row in rows if row["measure"] == measure and row["verdict"]]
        values = [row["value"] for row in some]
        worst = max(values) if some[0]["at_most"] is not None else min(values)
        verdict = "**missed**" if count(some, "missed") else "met"
        cells = [TITLES[name], measure, target_text(some[0]), f"{worst:.4g}", f"{count(some, 'met')} of {len(some)}"]
        lines.append(f"| {' | '.join(_escape(cell) for cell in [*cells, verdict])} |")
    return lines


def misses(name: str, rows: list[Row]) -> list[str]:
    """List items of what one benchmark missed, with the explanation where there is one."""
    lines = []
    for measure in dict.fromkeys(row["measure"] for row in rows if row["verdict"] == "missed"):
        some = [row for row in rows if row["measure"] == measure and row["verdict"] == "missed"]
        cases = ", ".join(f"{row['case']} ({row['value']:.4g})" for row in some)
        why = EXPLANATIONS.get((name, measure), "Not explained.")
        lines.append(f"- **{TITLES[name]}, {measure}**, wanted {target_text(some[0])}: {cases}. {why}")
    return lines


def section(name: str, content: dict[str, Any]) -> list[str]:
    """One benchmark with all its rows."""
    rounds = content["options"]["rounds"]
    lines = [f"## {TITLES[name]}", "", f"`python benchmarks/{name}.py --rounds {rounds}`", ""]
    lines += ["| case | measure | value | target | verdict | |", "|---|---|---|---|---|---|"]
    for row in content["rows"]:
        spread = f" ± {abs(row['spread']):.1%}" if "spread" in row else ""
        cells = [row["case"], row["measure"], f"{row['value']:.4g}{spread}", target_text(row), row["verdict"]]
        lines.append(f"| {' | '.join(_escape(cell) for cell in [*cells, row['text']])} |")
    return [*lines, "", *(f"{note}\n" for note in content["notes"])]


def machine(results: dict[str, dict[str, Any]]) -> list[str]:
    """Where the results come from, and what was not run there."""
    places = {}
    for name, content in results.items():
        places.setdefault(machine_text(content["environment"]), []).append(name)
    lines = [f"- {text}" + (f" ({', '.join(names)})" if len(places) > 1 else "") for text, names in places.items()]
    if not any(content["environment"]["gpu"] for content in results.values()):
        lines.append("- GPU: not run: no CUDA device")
    lines += [f"- {TITLES[name]}: not run" for name in TITLES if name not in results]
    return lines


def draw_growth(rows: list[Row]) -> Figure:
    """Seconds against size of every series, both logarithmic, and what would be proportional to the work."""
    figure = Figure(figsize=(11, 3.2 * -(-len(rows) // 3)), layout="constrained")
    for index, row in enumerate(rows):
        axes = figure.add_subplot(-(-len(rows) // 3), 3, index + 1)
        sizes, work, milliseconds = (np.array(row[name]) for name in ("sizes", "work", "seconds"))
        milliseconds = 1e3 * milliseconds
        axes.loglog(sizes, milliseconds, "o-", label="measured")
        axes.loglog(sizes, milliseconds[-1] * work / work[-1], ":", color="grey", label="proportional to the work")
        axes.set_title(f"{row['case']}\npower of the work {row['value']:.2f}", fontsize="small")
        axes.set_xticks(sizes, [f"{size:g}" for size in sizes], fontsize="small")
        axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.tick_params(axis="y", which="minor", labelleft=False)
        axes.set(xlabel="size", ylabel="milliseconds")
        axes.legend(fontsize="x-small")
    return figure


def document(results: dict[str, dict[str, Any]]) -> str:
    """The whole document, in Markdown."""
    rows = {name: content["rows"] for name, content in results.items()}
    everything = [row for some in rows.values() for row in some]
    missed = [line for name, some in rows.items() for line in misses(name, some)]
    parts = [
        ["# Performance", ""],
        [f"{count(everything, 'met')} figures with a target met it, {count(everything, 'missed')} missed it."],
        ["All sides of a comparison are timed in turn in one run; values are medians, ± the relative median absolute"],
        ["deviation. Whole generations run beside plain ones in lock-step; values are geometric means. The command"],
        ["behind the numbers at hand stands above each table, `python benchmarks/all.py` runs all of it; raw numbers"],
        ["are in `benchmarks/results/`.", ""],
        [*machine(results), ""],
        ["## Targets", "", "| what | measure | target | worst | met | verdict |", "|---|---|---|---|---|---|"],
        [line for name, some in rows.items() for line in summary(name, some)],
        ["", "## Misses", "", *(missed or ["None."]), ""],
        *(section(name, content) for name, content in results.items()),
        ["![growth](performance-growth.svg)"] if "growth" in results else [],
    ]
    return "\n".join(line for part in parts for line in part).rstrip() + "\n"


def write_document(results: dict[str, dict[str, Any]], folder: Path) -> Path:
    """Write `performance.md` and its plot; returns the former's path."""
    folder.mkdir(parents=True, exist_ok=True)
    if "growth" in results:
        save_figures({"performance-growth": draw_growth(results["growth"]["rows"])}, folder)
    path = folder / "performance.md"
    path.write_text(document(results))
    return path


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|")
