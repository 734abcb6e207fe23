"""What a search hands over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from asymrnr.schedule import Schedule

Sharing = Literal["refreshes", "early", "computed", "alike", "windows"]


class Window(NamedTuple):
    """A window of all blocks.

    Attributes:
        program: index of what they do (`tuner.search.memory.MemorySolver.programs`), or -2: all are left out.
        gap: steps after the refresh.
    """

    program: int
    gap: int


class TrialRecord(NamedTuple):
    """One trial, for the report.

    Attributes:
        trial: its number, from 0.
        speedup: predicted speed-up.
        error: predicted error.
        form: "table" or "threshold".
        best: least predicted error of a feasible trial so far, of either form; NaN before the first one.
    """

    trial: int
    speedup: float
    error: float
    form: str
    best: float


class FrontierPoint(NamedTuple):
    """One point of error against speed-up, both predicted."""

    speedup: float
    error: float


@dataclass(frozen=True)
class Recipe:
    """How a schedule came about, so that its kind can be made again for another speed.

    Attributes:
        form: "table" or "threshold", which copy, or "windows", which restore with memory and broadcast.
        stride, cache_step: of the schedule.
        yardstick: which trust of the space a table was made for.
        exponent: p that a table was optimised for.
        first, last: steps that a table leaves alone.
        rules: of a threshold rule, {feature: {threshold: rate}} before scaling.
        window: the one that comes again and again, where all windows are shared.
        sharing: of windows, what blocks have in common: when they refresh, be early errors worth more or not; that and
            what they do; or windows that are all the same.
    """

    form: Literal["table", "threshold", "windows"]
    stride: str
    cache_step: int
    yardstick: int = 0
    exponent: float = 2.0
    first: int = 0
    last: int = 0
    rules: Mapping[str, Mapping[float, float]] = field(default_factory=dict)
    sharing: Sharing = "refreshes"
    window: Window | None = None


@dataclass(frozen=True)
class Candidate:
    """A schedule worth a real generation.

    Attributes:
        schedule: the schedule.
        predicted_seconds, predicted_speedup: of its denoising.
        predicted_error: by the common yardstick (p = 2 and the space's first trust), whatever it was optimised for.
        bound: no schedule of the profiled strides, cache steps and rates that is as fast has less predicted error.
        excess: its predicted error over the least one found, by the trust that flatters it most; at least 1.
        kind: what sets it apart from the other candidates, such as the stride of its table.
        label: how it came about, in a few words.
        recipe: how to make its kind again.
    """

    schedule: Schedule
    predicted_seconds: float
    predicted_speedup: float
    predicted_error: float
    bound: float
    excess: float
    kind: str
    label: str
    recipe: Recipe

    @property
    def gap(self) -> float:
        """How far above the bound its predicted error is, relative to the error; says nothing about video quality."""
        return max(0.0, 1 - self.bound / self.predicted_error) if self.predicted_error > 0 else 0.0


@dataclass(frozen=True)
class SearchResult:
    """Everything a search found.

    Attributes:
        candidates: those that restore with memory and broadcast, then those that copy, by excess: the two best tables
            of different strides, the best table of every trust but the first, and the best threshold rule.
        history: every trial in order.
        frontier: error against speed-up of tables without protected steps, slowest first.
        threshold_points: the same for the threshold rules that no other one tried beats.
        bound: least possible predicted error of a copying schedule at the speed-up searched for.
        best_attainable: highest predicted speed-up in the space.
        memory_frontier: as `frontier`, of schedules that restore with memory and broadcast, by their own yardstick.
        price_of_interpretability: least predicted error of a threshold rule that is fast enough, over that of a table;
            None when no rule tried is.
    """

    candidates: list[Candidate]
    history: list[TrialRecord]
    frontier: list[FrontierPoint]
    threshold_points: list[FrontierPoint]
    bound: float
    best_attainable: float
    price_of_interpretability: float | None
    memory_frontier: list[FrontierPoint] = field(default_factory=list)
