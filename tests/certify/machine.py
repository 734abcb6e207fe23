"""A simulated machine on which pairs run in lock-step: its pace drifts, bursts of other work slow it, steps jitter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from tuner.run.estimate import PairedSteps

CELL = 0.05  # seconds
AROUND = 0.04  # of a plain step, what is around its blocks
FALL = 0.4  # what a tuned step would save without any attention
ATTENTION = np.linspace(0.9, 0.3, 30)  # late steps are reduced more


@dataclass(frozen=True)
class Machine:
    """What disturbs a pair.

    Attributes:
        drift: standard deviation of the log of the pace, which follows an autoregression of first order.
        memory: seconds over which its correlation falls to 1/e.
        noise: standard deviation of the log of a step's time (Student's t with four degrees of freedom).
        bursts: share of the time in which other work slows everything 1.5 to 2.5 times, for 1 to 3 s each.
        between: standard deviation over pairs of the log of the true speed-up.
        step: seconds of a plain step.
    """

    drift: float = 0.0
    memory: float = 20.0
    noise: float = 0.05
    bursts: float = 0.0
    between: float = 0.01
    step: float = 0.25


QUIET = Machine(noise=0.02, between=0.008)


def simulate(
    rng: np.random.Generator,
    machine: Machine,
    pairs: int,
    speedup: float = 1.3,
    attention: np.ndarray = ATTENTION,
    broadcast: np.ndarray | None = None,
    projections: float = 0.0,
    skipped: np.ndarray | None = None,
) -> list[PairedSteps]:
    """Pairs of a schedule whose speed-up is known; the order within a step is plain-tuned, tuned-plain, and so on.

    Where all blocks broadcast, a tuned step saves `projections` beyond its attention; where a share of them is skipped,
    that share of all but `AROUND`.
    """
    steps = len(attention)
    shape = 1 - FALL * (1 - attention) - (0.0 if broadcast is None else projections * broadcast)
    if skipped is not None:
        shape = np.where(skipped > 0, 1 - skipped * (1 - AROUND), shape)
    ratio = shape / shape.mean() / speedup
    work = machine.step * np.column_stack([np.ones(steps), ratio])
    work[1::2] = work[1::2, ::-1]
    ends = np.concatenate([[0.0], np.cumsum(work)])
    slowness = np.exp(_drift(rng, machine, pairs, int(ends[-1] / CELL) + 2))
    slowness *= _bursts(rng, machine.bursts, *slowness.shape)
    grid = CELL * np.arange(slowness.shape[1] + 1)
    tails = rng.standard_t(4, (pairs, steps, 2)) / np.sqrt(2)
    effect = np.exp(rng.normal(0, machine.between, pairs))
    result = []
    for i in range(pairs):
        elapsed = np.interp(ends, grid, np.concatenate([[0.0], np.cumsum(CELL * slowness[i])]))
        seconds = np.diff(elapsed).reshape(steps, 2)
        seconds[1::2] = seconds[1::2, ::-1]
        seconds *= np.exp(machine.noise * tails[i])
        result.append(PairedSteps(seconds[:, 0], seconds[:, 1] / effect[i], attention, broadcast, None, skipped))
    return result


def _drift(rng: np.random.Generator, machine: Machine, pairs: int, cells: int) -> np.ndarray:
    """(pairs, cells) log of the pace, stationary."""
    keep = np.exp(-CELL / machine.memory)
    shocks = rng.normal(0, machine.drift * np.sqrt(1 - keep**2), (pairs, cells))
    start = rng.normal(0, machine.drift, (pairs, 1)) * keep
    return lfilter([1.0], [1.0, -keep], shocks, axis=1, zi=start)[0]


def _bursts(rng: np.random.Generator, share: float, pairs: int, cells: int) -> np.ndarray:
    """(pairs, cells) factor by which bursts slow the machine."""
    factors = np.ones((pairs, cells))
    if share == 0:
        return factors
    count = int(cells * CELL) + 20  # enough: a burst lasts at least 1 s, and the pair begins within the first 20 s
    lasting = rng.uniform(1, 3, (pairs, count))
    gaps = rng.exponential(2 / share - 2, (pairs, count))
    edges = np.stack([gaps, lasting], axis=2).reshape(pairs, -1).cumsum(axis=1)
    strength = np.stack([np.ones((pairs, count)), rng.uniform(1.5, 2.5, (pairs, count))], axis=2).reshape(pairs, -1)
    for i, begin in enumerate(rng.uniform(10, 20, pairs)):
        at = np.minimum(np.searchsorted(edges[i], begin + CELL * np.arange(cells)), 2 * count - 1)
        factors[i] = strength[i, at]
    return factors
