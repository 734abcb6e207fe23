"""Methods as measured beside the plain pipeline, and what a family of them has to offer at a speed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from kept_results import Row
from lockstep_methods import typical

LEAST_ERROR = 1e-10  # of a video, for its logarithm: 100 dB


def changed_nothing(row: Row) -> bool:
    """Whether the video of a pair is the plain one bit for bit, and no attention was left out."""
    return bool(row["mse"] == 0 and row["skipped"] <= 0)


@dataclass(frozen=True)
class Measured:
    """A method and all of its pairs, at least one; and its videos of more prompts, made without timing anything."""

    family: str
    name: str
    pairs: tuple[Row, ...]
    videos: tuple[Row, ...] = ()

    @property
    def log_speedups(self) -> list[float]:
        return [row["log_speedup"] for row in self.pairs]

    @property
    def log_speedup(self) -> float:
        return float(np.mean(self.log_speedups))

    @property
    def judged(self) -> tuple[Row, ...]:
        """What its errors are of: the videos, where there are any."""
        return self.videos or self.pairs

    @property
    def log_errors(self) -> dict[tuple[str, int], float]:
        """By prompt and seed."""
        return {(row["prompt"], row["seed"]): math.log(max(row["mse"], LEAST_ERROR)) for row in self.judged}

    @property
    def log_error(self) -> float:
        return float(np.mean(list(self.log_errors.values())))

    @property
    def idle(self) -> bool:
        """It changes nothing, or leaves out nothing and is not faster or slower than noise."""
        if all(row["mse"] == 0 for row in self.pairs):
            return True
        if any(row["skipped"] > 0 for row in self.pairs):
            return False
        _, low, high = typical(self.log_speedups)
        if low is None or high is None:
            return abs(self.log_speedup) <= 2 * self.pairs[0]["standard_error"]
        return low <= 1 <= high

    def __str__(self) -> str:
        return f"{self.family}, {self.name}"


def measured(rows: Iterable[Row]) -> tuple[list[Measured], list[Row]]:
    """Methods with their pairs, and the rows of those that are not available."""
    rows = list(rows)
    missing = {(row["family"], row["method"]): row for row in rows if row["kind"] == "unavailable"}
    found: dict[str, dict[tuple[str, str], list[Row]]] = {"pair": {}, "video": {}}
    for row in rows:
        if row["kind"] in found and (names := (row["family"], row["method"])) not in missing:
            found[row["kind"]].setdefault(names, []).append(row)
    methods = [Measured(*names, tuple(p), tuple(found["video"].get(names, ()))) for names, p in found["pair"].items()]
    return methods, list(missing.values())


def frontier(methods: Iterable[Measured]) -> list[Measured]:
    """Those than which no other is both as fast and as good, from slow to fast; the idle ones are left out."""
    found: list[Measured] = []
    for method in sorted(methods, key=lambda m: (-m.log_speedup, m.log_error)):
        if not method.idle and (not found or method.log_error < found[-1].log_error):
            found.append(method)
    return found[::-1]


def at_speed(line: Sequence[Measured], log_speedup: float) -> list[tuple[float, Measured]]:
    """What a frontier has at a speed or above: one method or, between two of them, both with their weights."""
    for slow, fast in pairwise(line):
        if slow.log_speedup < log_speedup <= fast.log_speedup:
            weight = (log_speedup - slow.log_speedup) / (fast.log_speedup - slow.log_speedup)
            return [(1 - weight, slow), (weight, fast)] if weight < 1 else [(1.0, fast)]
    return [(1.0, line[0])] if line and log_speedup <= line[0].log_speedup else []


def by_family(methods: Iterable[Measured]) -> dict[str, list[Measured]]:
    """In the order in which families come first."""
    found: dict[str, list[Measured]] = {}
    for method in methods:
        found.setdefault(method.family, []).append(method)
    return found


Mix = list[tuple[float, Measured]]


def best_as_fast(methods: Iterable[Measured], tuned: Measured) -> tuple[Mix, list[float]] | None:
    """What the family with the least errors has at a tuned schedule's speed or above, see `at_speed` and `ratios`; None
    where none is as fast."""
    mixes = [at_speed(frontier(family), tuned.log_speedup) for family in by_family(methods).values()]
    found = [(mix, logs) for mix in mixes if mix and (logs := ratios(mix, tuned))]
    return min(found, key=lambda each: float(np.mean(each[1])), default=None)


def psnr_of(log_error: float) -> float:
    """PSNR (dB) from the logarithm of a mean squared error of values in [0, 1]."""
    return -10 * log_error / math.log(10)


def ratios(mix: Sequence[tuple[float, Measured]], tuned: Measured) -> list[float]:
    """Logarithms of the alternative's error over the tuned one's, for every prompt that all of them generated."""
    errors = [(weight, method.log_errors) for weight, method in mix]
    shared = [pair for pair in tuned.log_errors if all(pair in found for _, found in errors)]
    return [sum(weight * found[pair] for weight, found in errors) - tuned.log_errors[pair] for pair in shared]
