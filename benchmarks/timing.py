"""Times candidates in turn, so that a drift of the machine hits all of them alike, and reports against targets."""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from tuner.run.estimate import relative_mad
from tuner.run.identity import environment

Row = dict[str, Any]


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate, one entry a round."""

    seconds: np.ndarray

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    def __str__(self) -> str:
        return f"{self.median * 1e3:.4g} ms ± {relative_mad(self.seconds):.1%}"


def time_interleaved(
    candidates: dict[str, Callable[[], object]],
    rounds: int,
    before: dict[str, Callable[[], object]] | None = None,
) -> dict[str, Timing]:
    """Run every candidate once to warm up, then once a round, in alternating order.

    Args:
        candidates: by name; on CUDA each is timed until the device is done.
        rounds: timed runs of each.
        before: what to do before a candidate runs, by its name; not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for index in range(rounds + 1):
        for name in list(candidates)[:: 1 if index % 2 else -1]:
            if before is not None:
                before[name]()
            gc.collect()
            _synchronise()
            start = time.perf_counter()
            result = candidates[name]()
            _synchronise()
            if index > 0:
                seconds[name].append(time.perf_counter() - start)
            del result
    return {name: Timing(np.array(values)) for name, values in seconds.items()}


def compare(case: str, ours: Timing, name: str, other: Timing, at_most: float | None) -> Row:
    """A row with the time relative to another candidate's, as median of the rounds' ratios.

    Args:
        case: what was measured.
        ours: the candidate the target is about.
        name, other: what it is compared with.
        at_most: the target; None for a comparison without one.
    """
    ratios = ours.seconds / other.seconds
    measure = f"time / {name}"
    detail = {"ours_seconds": ours.seconds.tolist(), "other_seconds": other.seconds.tolist()}
    text = f"{ours} against {other}"
    return judge(case, measure, float(np.median(ratios)), at_most, text, spread=relative_mad(ratios), **detail)


def judge(
    case: str,
    measure: str,
    value: float,
    at_most: float | None = None,
    text: str = "",
    at_least: float | None = None,
    **detail: Any,
) -> Row:
    """A row with any figure, "met" or "missed" where it has a target."""
    kept = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
    verdict = "" if at_most is None and at_least is None else "met" if kept else "missed"
    row = {"case": case, "measure": measure, "value": value, "at_most": at_most, "at_least": at_least}
    return {**row, "verdict": verdict, "text": text, **detail}


def target_text(row: Row) -> str:
    """The target of a row; empty where it has none."""
    bounds = {"<=": row["at_most"], ">=": row.get("at_least")}
    return ", ".join(f"{sign} {bound:.4g}" for sign, bound in bounds.items() if bound is not None)


def parse_arguments(
    doc: str, name: str, rounds: int, cpu_only: bool = False, only: tuple[str, ...] = (), blocks: int | None = None
) -> argparse.Namespace:
    """The options all benchmarks share: quick, rounds, output, and device and cases where there is a choice of them."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, only to see that it runs")
    parser.add_argument("--rounds", type=int, default=rounds)
    if not cpu_only:
        parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    if only:
        parser.add_argument("--only", nargs="+", choices=only, default=list(only), help="some of the cases")
    if blocks is not None:
        parser.add_argument("--blocks", type=int, default=blocks, help="of each transformer; 0 for all")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / f"{name}.json")
    return parser.parse_args()


def report(rows: list[Row], arguments: argparse.Namespace, notes: list[str]) -> None:
    """Print the rows and write them with the environment and the options they were measured with."""
    table = Table("case", "measure", "value", "target", "verdict", "")
    for row in rows:
        spread = f" ± {row['spread']:.1%}" if "spread" in row else ""
        value = f"{row['value']:.4g}{spread}"
        table.add_row(row["case"], row["measure"], value, target_text(row), row["verdict"], row["text"])
    console = Console()
    console.print(table)
    for note in notes:
        console.print(note)
    options = {name: value for name, value in vars(arguments).items() if name != "output"}
    content = {"environment": environment(), "options": options, "notes": notes, "rows": rows}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(content, indent=1) + "\n")


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
