"""Burns every core in random bursts, until its parent ends.

python benchmarks/burner.py --seed 0   # 1 to 3 s at a time, 30 % of the time
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

SHORTEST, LONGEST = 1.0, 3.0  # seconds of a burst
DUTY = 0.3  # share of the time
SLICE = 0.05  # seconds between looks at the clock and at the parent


def bursts(seed: int) -> Iterator[tuple[float, float]]:
    """Begin and end of burst after burst, in seconds from now on.

    Bursts and the pauses before them are uniformly distributed, the latter from nothing to twice their mean.
    """
    generator = random.Random(seed)
    pause = (SHORTEST + LONGEST) / 2 * (1 - DUTY) / DUTY
    end = 0.0
    while True:
        begin = end + generator.uniform(0, 2 * pause)
        end = begin + generator.uniform(SHORTEST, LONGEST)
        yield begin, end


def burn(seed: int, since: float, parent: int) -> None:
    """Burn one core by a seed's bursts, counted from a moment of the monotonic clock, while the parent lives."""
    for begin, end in bursts(seed):
        while time.monotonic() < since + begin:
            time.sleep(SLICE)
            if os.getppid() != parent:
                return
        while (now := time.monotonic()) < since + end:
            while time.monotonic() < now + SLICE:
                pass
            if os.getppid() != parent:
                return


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def burning(seed: int | None) -> Iterator[None]:
    """Burn meanwhile, in processes of their own; None burns nothing."""
    if seed is None:
        yield
        return
    process = subprocess.Popen([sys.executable, __file__, "--seed", str(seed), "--parent", str(os.getpid())])
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parent", type=int, default=os.getppid(), help="process to end with")
    arguments = parser.parse_args()
    since = time.monotonic()
    for _ in range(cores()):
        multiprocessing.Process(target=burn, args=(arguments.seed, since, os.getpid()), daemon=True).start()
    while os.getppid() == arguments.parent:
        time.sleep(SLICE)


if __name__ == "__main__":
    main()
