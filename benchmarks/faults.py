"""Lets faults happen to real runs, workers and databases, and writes docs/reliability.md.

python benchmarks/faults.py                  # about 40 minutes on 2 busy CPU cores
python benchmarks/faults.py --only kills     # some of them; the others' results stay
python benchmarks/faults.py --report-only    # the document again, from benchmarks/results/faults.json
python benchmarks/faults.py --only two --results FILE    # results elsewhere, and no document

PostgreSQL has to be installed, and asymrnr[distributed].
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import fault_scenarios as scenarios  # noqa: E402
import fault_writes as writes  # noqa: E402
from fault_bed import Bed, remove  # noqa: E402
from fault_jobs import small_weights  # noqa: E402
from fault_report import write_document  # noqa: E402

from tests.work.postgres import Postgres, why_not  # noqa: E402

RESULTS = HERE / "results" / "faults.json"
DOCUMENT = ROOT / "docs" / "reliability.md"
KILLS = {"driver": 34, "worker": 10, "both": 6}  # 50 in all


def say(sentence: str) -> None:
    """Progress."""
    print(f"{time.strftime('%X')} {sentence}", flush=True)


def main() -> int:
    """Run what is asked for; 1 where anything is not zero that has to be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", nargs="*", help="kills-driver, kills-worker, kills-both, workers, disk, away, two, ..."
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="of each kind of SIGKILL, at most")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--report-only", action="store_true")
    asked = parser.parse_args()
    results = asked.results
    found = json.loads(results.read_text()) if results.is_file() else {"calls": [], "rows": {}}
    rows = found["rows"]
    if not asked.report_only:
        reason = why_not()
        if reason is not None:
            print(f"error: {reason}", file=sys.stderr)
            return 2
        found["calls"] += [" ".join(["faults.py", *sys.argv[1:]])]
        folder = Path(tempfile.mkdtemp(prefix="asymrnr-faults-"))
        try:
            with Postgres() as server:
                bed = Bed(folder, small_weights(folder / "weights"), server, asked.seed)
                for name, row in _run(bed, asked.only, asked.minutes):
                    rows[name] = asdict(row)
                    results.write_text(json.dumps(found, indent=2) + "\n")
                    say(f"{name}: {row}")
        finally:
            remove(folder)
    if results == RESULTS:
        write_document(found, DOCUMENT)
    bad = [name for name, row in rows.items() if row["lost"] or row["twice"] or row["other"] or row["left"]]
    say(f"not zero: {', '.join(bad)}" if bad else "all zero")
    return 1 if bad else 0


def _run(bed: Bed, only: list[str] | None, minutes: float):
    all_of = {
        "restarts": lambda: writes.restarts(bed, 20),
        "cuts": lambda: writes.cuts(bed, 30),
        "kills-driver": lambda: scenarios.kills(bed, "driver", KILLS["driver"], minutes, say),
        "two": lambda: scenarios.two_drivers_one_clock_off(bed),
        "away": lambda: scenarios.away_for_a_minute(bed),
        "disk": lambda: scenarios.full_disk(bed),
        "workers": lambda: scenarios.workers_that_fail(bed),
        "kills-worker": lambda: scenarios.kills(bed, "worker", KILLS["worker"], minutes, say),
        "kills-both": lambda: scenarios.kills(bed, "both", KILLS["both"], minutes, say),
    }
    for name, scenario in all_of.items():
        if not only or name in only:
            say(f"{name} begins")
            yield name, scenario()


if __name__ == "__main__":
    sys.exit(main())
