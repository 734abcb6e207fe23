"""Writes docs/reliability.md from what faults.py found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SPEED = Path(__file__).parent / "results" / "workers.json"
ORDER = ("kills-driver", "kills-worker", "kills-both", "restarts", "cuts", "away", "disk", "workers", "two")
HEAD = """# Reliability

What happens to a run when processes, databases, disks and clocks fail, counted over real faults: `python
benchmarks/faults.py` starts real runs, real Ray workers and a real PostgreSQL server, lets the fault happen at random
moments, goes on with `--resume`, and counts. The runs are of the embedded model with 2 of its 8 blocks in 4 steps, and
few frames, so that one takes a minute or two, with all stages of a real one. Two blocks generate noise, so that most
end without a certificate (exit codes 4 and 5), but with a schedule.

- **Lost**: measurements that were finished (in a log on disk) at some moment, and are in none of the runs in the end,
  or not in the database where there is one.
- **Twice**: measurements that were finished more than once. One that was in flight when it was struck is not finished.
- **Other schedule**: runs whose final schedule, evidence or verdict is not what an undisturbed run over the same
  measurements ends with.
- **Left behind**: processes, locks, leases, temporary files and folders of workers, after the end.

| fault | how often | measurements | lost | twice | other schedule | left behind | |
|---|---:|---:|---:|---:|---:|---:|---|
"""
MEANS = """
Why it is so: a measurement is on disk, with fsync, before anybody uses it, in the log of the run or, with workers, in
that of the worker; what a killed run's workers had finished is taken over at the next start. The database gets it
afterwards, in one transaction that does nothing where the measurement is there already, and what it missed while it was
away is delivered with the next measurement, at the end, or by the next `--resume`. A lease in the database says that
somebody makes a measurement; it is renewed only while the model gets on, by the database's own clock.

What this does not cover: a database that accepts a connection and then never answers is given up after two minutes for
a statement that it has begun, but not where the network swallows everything without a word; then a run waits. Where
Ray's own processes die, and not a worker's, Ray ends the run's process with them (exit code 1); `--resume` goes on. A
network between the nodes of a Ray cluster that fails was not tried, and neither was a real GPU.
"""


def write_document(found: dict[str, Any], path: Path) -> None:
    """Write the table, and the speed-up with several workers where it was measured.

    Args:
        found: "rows" of the table by name, and "calls", the commands that they come from.
        path: of the document.
    """
    rows, text = found["rows"], HEAD
    for name in [*ORDER, *(name for name in rows if name not in ORDER)]:
        row = rows.get(name)
        if row is None:
            continue
        other = "" if row["other"] is None else row["other"]
        left = len(row["left"])
        cells = [row["fault"], row["faults"], row["measurements"], row["lost"], row["twice"], other, left, row["note"]]
        text += "| " + " | ".join(str(cell) for cell in cells) + " |\n"
    kills = sum(rows[name]["faults"] for name in rows if name.startswith("kills"))
    calls = "; ".join(f"`{call}`" for call in found["calls"])
    text += f"\n{kills} SIGKILLs in all. Calls that the rows come from: {calls}.\n" + MEANS
    if SPEED.is_file():
        text += _speed(json.loads(SPEED.read_text()))
    path.write_text(text, encoding="utf-8")


def _speed(found: dict[str, Any]) -> str:
    lines = [
        "\n## Several workers\n",
        f"`python benchmarks/workers.py`: {found['pairs']} held-out pairs of the embedded model in {found['steps']} "
        f"steps, made by workers with one thread each on a machine with {found['cores']} cores, "
        f"{found['rounds']} rounds in turn; loading is not counted. More workers than cores cannot be faster here; on "
        "GPUs every worker has one "
        "of its own.\n",
        "| workers | seconds (median) | times as fast as one | scatter of the pairs' speed-ups |",
        "|---:|---:|---:|---:|",
    ]
    for row in found["rows"]:
        lines.append(f"| {row['workers']} | {row['seconds']:.1f} | {row['ratio']:.2f} | {row['scatter']:.1%} |")
    return "\n".join(lines) + "\n"
