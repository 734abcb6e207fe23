"""How much sooner held-out pairs are there with 2 and 4 workers than with one, and what that does to their speed-ups.

python benchmarks/workers.py                 # writes benchmarks/results/workers.json; faults.py puts it into the docs

Workers have one thread each. All are started first; then 1, 2 and 4 of them make equally many pairs, in turn, so that
whatever else the machine does hits all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from asymrnr.schedule import Schedule  # noqa: E402
from tuner.context import HOW, TuneOptions  # noqa: E402
from tuner.models import WorkloadOptions  # noqa: E402
from tuner.run.instrument import Instrument  # noqa: E402
from tuner.run.job import Job  # noqa: E402
from tuner.run.ledger import Ledger  # noqa: E402
from tuner.run.pair import from_record  # noqa: E402
from tuner.run.store import MeasurementStore  # noqa: E402
from tuner.work.pool import Pool  # noqa: E402
from tuner.work.ray_crew import join  # noqa: E402

MODEL, BLOCKS, COUNTS = "tiny-cogvideox", 8, (1, 2, 4)


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=HERE / "results" / "workers.json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8)
    asked = parser.parse_args()
    rates = {"Q": np.full((BLOCKS, asked.steps), 0.5)}
    schedule = Schedule(rates=rates, stride=(2, 2, 2), cache_step=3)
    seconds: dict[int, list[float]] = {count: [] for count in COUNTS}
    speeds: dict[int, list[float]] = {count: [] for count in COUNTS}
    with tempfile.TemporaryDirectory() as folder, MeasurementStore(Path(folder) / "run") as store:
        options = TuneOptions(MODEL, 1.1, store.folder, workload=WorkloadOptions(steps=asked.steps))
        told = {**options.to_dict(), **{name: getattr(options, name) for name in HOW}}
        place = join(str(max(COUNTS)), "cpu", store.folder, told, None, options.lease, print)
        assert isinstance(place.source, Pool)
        prompts = options.model_entry().held_out_prompts(asked.pairs)
        crew = place.source
        everybody = list(crew._members)
        for number in range(-1, asked.rounds):  # the first round warms up, and makes the twins
            for count in COUNTS if number >= 0 else COUNTS[-1:]:
                crew._members, crew.width = everybody[:count], count
                one = Instrument(store, Ledger(1e6), place.subject, crew)
                wanted = [
                    one.pair_request("pairs", prompt, 1_000 * (number + 1) + 100 * count + seed, schedule)
                    for seed, prompt in enumerate(prompts)
                ]
                began = time.perf_counter()
                found: dict[str, Any] = {}
                crew.make([each.job for each in wanted], partial(_keep, found))
                took = time.perf_counter() - began
                if number >= 0:
                    seconds[count].append(took)
                    for each in wanted:
                        record = store.put(each.job.key, *found[each.job.key_hash])
                        speeds[count].append(from_record(record).denoise.log_speedup)
                print(f"round {number + 1}, {count} workers: {took:.1f} s", flush=True)
        crew.close()
    rows = [
        {
            "workers": count,
            "seconds": statistics.median(seconds[count]),
            "ratio": statistics.median(a / b for a, b in zip(seconds[1], seconds[count], strict=True)),
            "scatter": float(np.std(speeds[count], ddof=1)),
        }
        for count in COUNTS
    ]
    content: dict[str, Any] = {"cores": os.cpu_count(), "rounds": asked.rounds, "pairs": asked.pairs}
    content |= {"steps": asked.steps, "rows": rows}
    asked.output.write_text(json.dumps(content, indent=2) + "\n")
    print(json.dumps(rows, indent=2))


def _keep(found: dict[str, Any], job: Job, made: Any) -> None:
    found[job.key_hash] = made


if __name__ == "__main__":
    sys.exit(main())
