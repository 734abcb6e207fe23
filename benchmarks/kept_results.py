"""What a long benchmark has finished, so that it can be interrupted and go on."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tuner.run.identity import differences

Row = dict[str, Any]
RESULTS = "results.jsonl"


class Results:
    """What is finished, a line of JSON each; the first one says what for, and on which machine."""

    def __init__(self, folder: Path, head: Row) -> None:
        """
        Raises:
            SystemExit: the folder holds results of something else.
        """
        self.path = folder / RESULTS
        self.rows: list[Row] = []
        folder.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            whole, _, cut_off = self.path.read_text().rpartition("\n")
            if cut_off:
                self.path.write_text(whole + "\n" if whole else "")
            self.rows = [json.loads(line) for line in whole.splitlines()]
        if not self.rows:
            self.add(head)
        changed = differences(self.rows[0], head)
        if changed:
            raise SystemExit(f"{folder} holds results of something else: {' '.join(changed)} Choose another --output.")

    def add(self, row: Row) -> None:
        """Keep a result; on disk when this returns."""
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.rows.append(row)

    def having(self, **wanted: Any) -> list[Row]:
        """The rows with all of these entries."""
        return [row for row in self.rows if wanted.items() <= row.items()]

    def has(self, **wanted: Any) -> bool:
        return bool(self.having(**wanted))


def machine_text(where: Row) -> str:
    """A machine and its software, from what `tuner.run.identity.environment` says."""
    return (
        f"{where['cpu']}, {where['cpu_count']} CPUs, {where['threads']} threads, {where['gpu'] or 'no GPU'}, "
        f"Python {where['python']}, torch {where['torch']}, diffusers {where['diffusers']}"
    )


def kept(folder: Path) -> list[Row]:
    """What a finished benchmark kept in a folder, the first row says what for."""
    return [json.loads(line) for line in (folder / RESULTS).read_text().splitlines()]


def rows_of(folders: Sequence[Path], found: dict[str, Any]) -> list[Row]:
    """Videos that were generated elsewhere.

    Raises:
        SystemExit: of another model or workload.
    """
    rows: list[Row] = []
    for folder in folders:
        head, *others = kept(folder)
        if {**head["subject"], "device": None} != {**found, "device": None}:
            raise SystemExit(f"{folder} holds results of another model or workload.")
        rows += [{**row, "device": head["environment"]["gpu"] or row["device"]} for row in others]
    return rows


def part_of(pairs: Sequence[tuple[str, int]], part: str) -> list[tuple[str, int]]:
    """The prompts of a part such as "1/8"."""
    number, count = map(int, part.split("/"))
    return list(pairs[number - 1 :: count])
