"""The paper's FLOPs against computed ones: Tables 1, 2, 6, 7 and 9, as Markdown.

    python benchmarks/paper_flops.py REFERENCE

REFERENCE is the folder of `paper_tables.json` and `similarity_tables/`; docs/flops.md holds the output.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.paper.architectures import ARCHITECTURES
from tuner.paper.counter import FlopCount, count_flops
from tuner.paper.schedules import read_similarity, resolve_rule

PETA = 1e15
COUNTS_MATCHING = {"cogvideox-2b", "cogvideox-5b"}
"""Models whose rows in the paper include the matching; the others are met without it."""

ABLATED = "cogvideox-2b"
"""Model of Tables 6, 7 and 9, which drop 30 % of K and V at every site."""


@dataclass(frozen=True)
class Row:
    """One row of the paper.

    Attributes:
        table: its number.
        model, label: what the row is about.
        paper: its FLOPs, 1e15 operations per video.
        count: ours, in operations.
    """

    table: str
    model: str
    label: str
    paper: float
    count: FlopCount

    @property
    def computed(self) -> float:
        """1e15 operations, with the matching where the paper counts it."""
        matching = self.count.matching_flops if self.model in COUNTS_MATCHING else 0
        return (self.count.flops + matching) / PETA

    @property
    def deviation(self) -> float:
        """Relative to the paper."""
        return self.computed / self.paper - 1


def paper_rows(reference: Path) -> Iterator[Row]:
    """All rows of Tables 1, 2, 6, 7 and 9, counted."""
    tables = json.loads((reference / "paper_tables.json").read_text())
    for row in tables["table_1_2_8"]:
        model = row["model"]
        file = reference / "similarity_tables" / tables["models"][model]["similarity_file"]
        table = "1" if model == ABLATED else "2"
        yield Row(table, model, row["method"], row["flops"], _count(model, row["schedule"], file))
    for row in tables["table_6_cache_steps_cogvideox_2b_v_only_rate_0.3_unscheduled"]:
        steps = row["cache_steps"]
        yield _ablation("6", f"s = {steps}", row, {"cache_step": steps})
    for row in tables["table_7_similarity_and_reduction_cogvideox_2b_v_only_rate_0.3_unscheduled_s5"]:
        settings = {"metric": row["similarity"], "reduction": row["reduction"]}
        yield _ablation("7", f"{row['similarity']}, {row['reduction']}", row, settings)
    for row in tables["table_9_stride_cogvideox_2b_v_only_rate_0.3_unscheduled_s5"]:
        stride = row["stride_thw"]
        yield _ablation("9", "stride " + "x".join(str(s) for s in stride), row, {"stride": stride})


def markdown(rows: Iterator[Row]) -> str:
    """The rows as a table."""
    lines = [
        "| table | model | row | paper | `flops` | `matching_flops` | compared | deviation |",
        "|---|---|---|---:|---:|---:|---|---:|",
    ]
    for row in rows:
        matching = row.count.matching_flops / PETA
        compared = "`flops`" if row.model not in COUNTS_MATCHING or matching == 0 else "sum"
        cells = [row.table, row.model, row.label, f"{row.paper:.3f}", f"{row.count.flops / PETA:.3f}"]
        lines.append("| " + " | ".join([*cells, f"{matching:.3f}", compared, f"{row.deviation:+.3%}"]) + " |")
    return "\n".join(lines)


def _ablation(table: str, label: str, row: dict[str, Any], settings: dict[str, Any]) -> Row:
    return Row(table, ABLATED, label, row["flops"], _count(ABLATED, {"V": 0.3, **settings}, None))


def _count(model: str, rule: dict[str, Any], similarity: Path | None) -> FlopCount:
    architecture = ARCHITECTURES[model]
    if not rule:
        return count_flops(architecture)
    table = None if similarity is None else read_similarity(similarity, architecture)
    return count_flops(architecture, resolve_rule(rule, architecture, table))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path)
    print(markdown(paper_rows(parser.parse_args().reference)))
