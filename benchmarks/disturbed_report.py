"""Writes what `disturbed.py` recorded: a summary against what is asked, and all runs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from kept_results import machine_text
from lockstep_methods import typical_text

Row = dict[str, Any]
CONDITIONS = ("quiet", "disturbed")
LEAST_DISTURBED = 0.9  # share of the disturbed runs that must be certified
ABOVE, LEAST_CLOSE = 0.05, 0.9  # how far above the target, in which share of the runs
ALIKE = 0.03
INFEASIBLE = 3
RUNS, PAIRS = 10, 5  # asked for: runs of each kind; pairs of one schedule
HEADER = (
    "| run | seed | exit | speed-up | at least | pairs | attempt | steps disturbed | disturbed pairs "
    "| generations | minutes | schedule saved | failed |"
)


def document(rows: list[Row], command: str) -> str:
    """The whole document, in Markdown.

    Args:
        rows: as recorded, the first one says what for.
        command: that recorded them.
    """
    head = rows[0]
    runs, same = ([row for row in rows if row["kind"] == kind] for kind in ("run", "same"))
    target = head["target"]
    lines = [
        "# On a disturbed machine",
        "",
        f"Measured by `{command}`: the main job on {head['model']} for {target:g}x again and again, each time with",
        "another seed; *quiet* is the machine as it is, *disturbed* the same while another process burns every core in",
        "bursts of 1 to 3 s for 30 % of the time. Quiet and disturbed runs took turns.",
        *_machines(rows[1:]),
        "",
        "## Summary",
        "",
        "| asked | found | verdict |",
        "|---|---|---|",
        *(f"| {' | '.join(cells)} |" for cells in [*_of_runs(runs, target), _of_same(same)]),
        "",
        "## Runs",
        "",
        HEADER,
        "|" + "---|" * (HEADER.count("|") - 1),
        *(_line(row) for row in runs),
    ]
    if any(row["resumed"] for row in runs):
        lines += ["", "\\* Interrupted and continued; only the last part is counted."]
    lines += [
        "",
        "## One and the same schedule",
        "",
        "| machine | seed | speed-up | steps disturbed |",
        "|---|---|---|---|",
    ]
    for row in same:
        cells = [row["condition"], str(row["seed"]), f"{np.exp(row['log_speedup']):.3f}x"]
        cells.append("{disturbed} of {steps}".format_map(row))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _machines(rows: list[Row]) -> list[str]:
    """A list item for every machine, with how many results are of it."""
    texts = [machine_text(row["environment"]) for row in rows]
    return ["", *(f"- {text} ({count} of the {len(texts)} results)" for text, count in Counter(texts).items())]


def _of_runs(runs: list[Row], target: float) -> list[tuple[str, str, str]]:
    """Summary lines about the runs."""
    quiet, disturbed = ([row for row in runs if row["condition"] == condition] for condition in CONDITIONS)
    certified = [sum(row["exit"] == 0 for row in some) for some in (quiet, disturbed)]
    infeasible = sum(row["exit"] == INFEASIBLE for row in runs)
    without = sum(not row["saved"] for row in runs)
    points = [row["point"] for row in runs if "point" in row]
    close = sum(target <= point <= target * (1 + ABOVE) for point in points)
    span = f", {min(points):.3f}x to {max(points):.3f}x" if points else ""
    asked = f"points from {target:g}x to 5 % above it in at least 18 of 20 runs"
    return [
        _judged("all quiet runs certified", f"{certified[0]} of {len(quiet)}", quiet, certified[0] == len(quiet), RUNS),
        _judged(
            "at least 9 of 10 disturbed runs certified",
            f"{certified[1]} of {len(disturbed)}",
            disturbed,
            certified[1] >= LEAST_DISTURBED * len(disturbed),
            RUNS,
        ),
        _judged("none ends with exit code 3", f"{infeasible} of {len(runs)}", runs, infeasible == 0, 2 * RUNS),
        _judged("none ends without a saved schedule", f"{without} of {len(runs)}", runs, without == 0, 2 * RUNS),
        _judged(asked, f"{close} of {len(runs)}{span}", runs, close >= LEAST_CLOSE * len(runs), 2 * RUNS),
    ]


def _of_same(same: list[Row]) -> tuple[str, str, str]:
    """Summary line about the one schedule; the ratio is that of pairs with the same prompt and noise."""
    asked = "one and the same schedule: disturbed within 3 % of quiet"
    logs = {c: [row["log_speedup"] for row in same if row["condition"] == c] for c in CONDITIONS}
    both = list(zip(logs["quiet"], logs["disturbed"], strict=False))
    if not both:
        return asked, "not run", ""
    ratios = [disturbed - quiet for quiet, disturbed in both]
    found = ", ".join(f"{condition} {typical_text(logs[condition], '{:.3f}x')}" for condition in CONDITIONS)
    found += f"; disturbed / quiet {typical_text(ratios)}, 95 % t intervals over {len(both)} pairs each"
    return _judged(asked, found, both, abs(np.expm1(np.mean(ratios))) <= ALIKE, PAIRS)


def _judged(asked: str, found: str, rows: list[Any], kept: bool, wanted: int) -> tuple[str, str, str]:
    """A line of the summary; what holds of fewer runs than asked for holds so far."""
    if not rows:
        return asked, "not run", ""
    return asked, found, "**missed**" if not kept else "met" if len(rows) >= wanted else "met so far"


def _line(row: Row) -> str:
    def cell(name: str, form: str) -> str:
        return form.format(row[name]) if row.get(name) is not None else "-"

    cells = [row["condition"], str(row["seed"]), str(row["exit"]), cell("point", "{:.3f}x"), cell("bound", "{:.3f}x")]
    cells += [
        cell("pairs", "{}"),
        cell("attempt", "{}"),
        cell("disturbed_steps", "{:.1%}"),
        cell("disturbed_pairs", "{}"),
    ]
    cells += [cell("spent_ie", "{:.1f}"), f"{row['seconds'] / 60:.1f}" + ("\\*" if row["resumed"] else "")]
    return f"| {' | '.join([*cells, 'yes' if row['saved'] else 'no', ', '.join(row.get('failed', [])) or '-'])} |"
