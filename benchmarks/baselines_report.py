"""Writes what `baselines.py` measured: a table a target, and a picture of loss against speed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tuner.report.plots import save_figures

Row = dict[str, Any]
GOAL = 0.5  # of the heuristic's loss
HEADER = (
    "| method | measured speed-up (95 %) | MSE | tuned MSE / this (95 %) | per prompt (95 %) "
    "| teacher-forced error | tuned / this (95 %) "
    "| PSNR (dB) | SSIM | attributes right | generations spent |"
)


def markdown(content: dict[str, Any], figure: str) -> str:
    """The document."""
    machine, certified = content["environment"], [t for t in content["targets"] if t["certified"]["refused"] is None]
    lines = [
        "# Tuned against the baselines",
        "",
        f"Measured by `{content['command']}` on {content['model']}: {content['prompts']} held-out prompts",
        f"and seeds that nothing was chosen by (teacher-forced error: {content['forced_prompts']} of them), all",
        "methods brought to the tuned schedule's measured speed-up, which is measured on",
        f"{content['timed_prompts']} of the prompts, beside the plain pipeline in lock-step. Errors are",
        "against the unaccelerated video of the same prompt and seed. Ratios of MSE are those of the means, and *per",
        "prompt* the geometric mean of the prompts' ratios: prompts whose generation is close to tipping over to",
        "another video have errors ten times those of the rest and decide the means. Intervals of speed-ups are",
        f"Student's, the others bootstrap prompts ({machine['cpu']}, {machine['threads']} threads,",
        f"torch {machine['torch']}).",
        "",
        f"{_highest(certified)} {_heuristic(content['heuristic_certified'])}",
        "",
        f"![loss against speed]({figure})",
    ]
    for target in content["targets"]:
        found = target["certified"]
        verdict = "certified" if found["refused"] is None else f"not certified ({found['refused']})"
        lines += [
            "",
            f"## Target {target['target']:g}x",
            "",
            f"On the certificate's prompts {found['point']:.3f}x, {_at_least(found['bound'])}: {verdict}.",
            "",
            HEADER,
            "|" + "---|" * (HEADER.count("|") - 1),
            *(_line(row) for row in target["rows"]),
            "",
            _verdict(target["rows"]),
        ]
    return "\n".join(lines) + "\n"


def _at_least(bound: float | None) -> str:
    return "no interval (n = 1)" if bound is None else f"at least {bound:.3f}x"


def _highest(certified: list[Row]) -> str:
    if not certified:
        return "No target was certified."
    best = max((target["certified"] for target in certified), key=lambda found: found["bound"])
    return f"Highest certified: tuned {best['point']:.3f}x, at least {best['bound']:.3f}x."


def _heuristic(certified: Row | None) -> str:
    if certified is None:
        return "None of the heuristic's schedules passes the gates on held-out prompts."
    return (
        f"The heuristic's fastest schedule that passes the same gates: {certified['point']:.3f}x, at least "
        f"{certified['bound']:.3f}x."
    )


def _line(row: Row) -> str:
    def cell(name: str, form: str) -> str:
        return format(row[name], form) if row.get(name) is not None else "-"

    def ratio(name: str) -> str:
        return "{:.2g} ({:.2g} to {:.2g})".format(*row[name]) if name in row else "-"

    low, high = row.get("speedup_interval", (None, None))
    speedup = cell("speedup", ".2f") + ("" if low is None else f" ({low:.2f} to {high:.2f})")
    cells = [row["method"], speedup, cell("mse", ".2e"), ratio("mse_ratio")]
    cells += [ratio("mse_typical"), cell("forced", ".4f")]
    cells += [ratio("forced_ratio"), cell("psnr", ".1f"), cell("ssim", ".4f"), cell("attributes", ".0%")]
    return f"| {' | '.join([*cells, cell('tuning_ie', '.1f')])} |"


def _verdict(rows: list[Row]) -> str:
    """Whether the tuned schedule loses at most half of what the heuristic loses."""
    found = next((row for row in rows if row["method"].startswith("heuristic") and "mse_ratio" in row), None)
    if found is None:
        return "By the latency model the heuristic cannot reach this speed, at any rate and threshold."
    squared = tuple(part**2 for part in found["forced_ratio"])
    parts = []
    for name, (value, low, high) in (
        ("MSE", found["mse_ratio"]),
        ("MSE per prompt", found["mse_typical"]),
        ("teacher-forced error, squared like the MSE,", squared),
    ):
        verdict = "met" if value <= GOAL else "missed"
        sure = "" if (high <= GOAL) == (value <= GOAL) else ", though the interval includes the opposite"
        parts.append(
            f"{name} at most {GOAL:g} of the heuristic's: {verdict} ({value:.2g}, {low:.2g} to {high:.2g}{sure})"
        )
    value, low, high = found["forced_ratio"]
    return f"{'. '.join(parts)}. Not squared, the latter is {value:.2g} ({low:.2g} to {high:.2g})."


def draw(content: dict[str, Any]) -> Figure:
    """Mean squared error against measured speed-up, a line a method."""
    figure = Figure(figsize=(6.5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    points: dict[str, list[tuple[float, float]]] = {}
    for target in content["targets"]:
        for row in target["rows"]:
            if "mse" in row:
                points.setdefault(row["method"], []).append((row["speedup"], row["mse"]))
    for method, found in points.items():
        axes.plot(*zip(*sorted(found), strict=True), marker="o", label=method)
    axes.set(xlabel="measured speed-up", ylabel="MSE to the unaccelerated video", yscale="log")
    axes.legend(fontsize="x-small")
    return figure


def write(content: dict[str, Any], root: Path, title: str) -> None:
    """Document, picture and raw numbers, all of one name."""
    text = markdown(content, f"{title}.png")
    print(text)
    (root / "docs" / f"{title}.md").write_text(text)
    save_figures({title: draw(content)}, root / "docs")
    results = root / "benchmarks" / "results" / f"{title}.json"
    results.parent.mkdir(exist_ok=True)
    results.write_text(json.dumps(content, indent=1) + "\n")
