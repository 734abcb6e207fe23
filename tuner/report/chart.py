"""Error against speed as a chart whose points say their values; the page draws it, see `templates/chart.html.j2`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.ticker import LogLocator, MaxNLocator

from tuner.search.result import FrontierPoint

WIDTH, HEIGHT = 520.0, 340.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 14.0, 14.0, 46.0  # margins, in the same units
MOST_POINTS = 40  # of a line that answer; the line itself goes through all
DECADES = 2.5  # of errors from which on one label each will do
ROOM = 0.04  # of the axes, on each side


@dataclass(frozen=True)
class Spot:
    """A point that says its values: its place, and what it says."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Series:
    """A line with its spots, or finalists, which have no line.

    Attributes:
        name: for the legend.
        path: "x,y x,y ..." of the line; empty for finalists.
        spots: from left to right.
    """

    name: str
    path: str
    spots: Sequence[Spot]


@dataclass(frozen=True)
class Chart:
    """Everything in units of the drawing, which is WIDTH x HEIGHT with y downwards.

    Attributes:
        series: lines, then finalists.
        target: x of the target.
        x_ticks, y_ticks: place and label.
        frame: left, top, right and bottom of the axes.
    """

    series: Sequence[Series]
    target: float
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    frame: tuple[float, float, float, float] = (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)
    size: tuple[float, float] = (WIDTH, HEIGHT)


@dataclass(frozen=True)
class _Axis:
    """Values to places along an axis; errors by their logarithm."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> _Axis:
        low, high = min(values), max(values)
        room = ROOM * ((high - low) or 1.0)
        return cls(low - room, high + room, start, end)

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 1)


def frontier_chart(
    lines: Mapping[str, Sequence[FrontierPoint]], finalists: Sequence[tuple[str, FrontierPoint, str]], target: float
) -> Chart | None:
    """Predicted error against predicted speed-up.

    Args:
        lines: a line a form.
        finalists: label, place, and what else there is to say of each.
        target: denoising speed-up asked for.

    Returns:
        None where there is no point to draw.
    """
    found = {name: sorted(p for p in points if 0 < p.error < math.inf) for name, points in lines.items()}
    found = {name: points for name, points in found.items() if points}
    stars = [(label, point, more) for label, point, more in finalists if point.error > 0]
    every = [point for points in found.values() for point in points] + [point for _, point, _ in stars]
    if not every:
        return None
    x = _Axis.over([target, *(point.speedup for point in every)], LEFT, WIDTH - RIGHT)
    y = _Axis.over([math.log10(point.error) for point in every], HEIGHT - BOTTOM, TOP)

    def spot(name: str, point: FrontierPoint, more: str = "") -> Spot:
        text = f"{name}: {point.speedup:.3f}x, predicted error {point.error:.3g}{more}"
        return Spot(x(point.speedup), y(math.log10(point.error)), text)

    series = []
    for name, points in found.items():
        path = " ".join(f"{x(p.speedup)},{y(math.log10(p.error))}" for p in points)
        shown = points[:: -(-len(points) // MOST_POINTS)]
        series.append(Series(name, path, [spot(name, point) for point in shown]))
    if stars:
        series.append(Series("finalists", "", [spot(label, point, more) for label, point, more in stars]))
    xs = [v for v in MaxNLocator(6).tick_values(x.low, x.high) if x.low <= v <= x.high]
    low, high = 10**y.low, 10**y.high
    subs = (1,) if y.high - y.low > DECADES else (1, 2, 5)
    ys = [float(v) for v in LogLocator(subs=subs).tick_values(low, high) if low <= v <= high]
    return Chart(
        series,
        x(target),
        [(x(value), f"{value:g}x") for value in xs],
        [(y(math.log10(value)), f"{value:g}") for value in ys],
    )
