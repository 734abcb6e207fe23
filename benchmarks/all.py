"""Runs all benchmarks one after the other and writes docs/performance.md: every target, met or missed.

python benchmarks/all.py                 # about an hour on 2 idle CPU cores
python benchmarks/all.py --only gather   # some of them; the others' results stay
python benchmarks/all.py --report-only   # the document again, from benchmarks/results/
python benchmarks/all.py --quick         # tiny sizes, to see that all run; writes into a temporary folder
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from performance import TITLES, load_results, write_document
from rich.console import Console

HERE = Path(__file__).parent
MINUTES = {
    "matching": 5,
    "gather": 2,
    "site": 2,
    "generation": 8,
    "prediction": 6,
    "overhead": 14,
    "knn_kl": 6,
    "bound": 5,
    "search_speed": 2,
    "growth": 1,
    "windowed": 3,
    "stack": 9,
    "matching_tiles": 4,
    "full_size": 10,
}
"""About how long each takes on 2 CPU cores."""
PATIENCE = 4  # times as long before a benchmark is given up


def run(names: list[str], folder: Path, quick: bool, console: Console) -> list[str]:
    """Run benchmarks as processes of their own; returns those that failed or took far too long."""
    failed = []
    began, expected = time.monotonic(), sum(MINUTES[name] for name in names)
    for index, name in enumerate(names):
        left = sum(MINUTES[later] for later in names[index:])
        pace = (time.monotonic() - began) / 60 / (expected - left) if index else 1.0
        rest = "" if quick else f", about {left * pace:.0f} min left"
        console.rule(f"{index + 1} of {len(names)}: {name}{rest}")
        command = [sys.executable, str(HERE / f"{name}.py"), "--output", str(folder / f"{name}.json")]
        try:
            options = ["--quick", "--rounds", "2"] if quick else []
            code = subprocess.run([*command, *options], timeout=60 * PATIENCE * MINUTES[name]).returncode
        except subprocess.TimeoutExpired:
            code = None
        if code != 0:
            failed.append(name)
            console.print(f"{name} " + ("took too long" if code is None else f"failed with exit code {code}"))
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, results into a temporary folder")
    parser.add_argument("--report-only", action="store_true", help="write the document from the results at hand")
    parser.add_argument("--only", nargs="+", choices=TITLES, default=list(TITLES), metavar="NAME", help="only these")
    arguments = parser.parse_args()
    console = Console()
    results, docs = HERE / "results", HERE.parent / "docs"
    if arguments.quick:
        results = docs = Path(tempfile.mkdtemp(prefix="benchmarks-"))
    failed = [] if arguments.report_only else run(arguments.only, results, arguments.quick, console)
    path = write_document(load_results(results), docs)
    console.print(f"Written: {path}")
    if failed:
        raise SystemExit(f"Failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
