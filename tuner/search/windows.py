"""Windows in which blocks restore with memory, broadcast or are left out: what there is to choose, and a choice.

A *window* is a refresh of all blocks and the steps that live on what it kept, where every block restores with memory at
one rate, broadcasts, or still computes in full, or where the whole denoiser is left out and what it gave is
extrapolated. All blocks refresh together: one that refreshed while others live on memory would keep what they got wrong
(on the embedded model that is worth 1 to 5 dB). What a window gets wrong points the same way, because it grows with the
distance from one refresh, so that amplitudes add up within a window of a block, and squares over windows and blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from asymrnr.actions import Action

FULL = -1


@dataclass(frozen=True)
class Program:
    """What a block does in a window after the refresh.

    Attributes:
        action: MEMORY or BROADCAST.
        rate: of the queries.
    """

    action: Action
    rate: float = 0.0

    def __str__(self) -> str:
        return "broadcast" if self.action == Action.BROADCAST else f"memory at Q {self.rate:g}"


@dataclass(frozen=True)
class WindowProblem:
    """Blocks, steps, and the windows there may be.

    Attributes:
        programs: what blocks may do in windows.
        loss: (programs, blocks, steps, gaps) in the window whose refresh is at a step and which goes on for 1, 2, ...
            further steps; inf where there is no such window.
        seconds: (programs, blocks, gaps) of such a window beyond what its steps take in full; negative where it saves.
        reuse_loss: (steps, before, gaps) of the windows in which all blocks are left out, by how many steps were left
            out right before their first step, which is computed; None where that is not allowed.
        reuse_seconds: (gaps,) of them, likewise.
    """

    programs: tuple[Program, ...]
    loss: np.ndarray
    seconds: np.ndarray
    reuse_loss: np.ndarray | None = None
    reuse_seconds: np.ndarray | None = None

    @property
    def blocks(self) -> int:
        return self.loss.shape[1]

    @property
    def steps(self) -> int:
        return self.loss.shape[2]

    def alike(self) -> WindowProblem:
        """The same with all blocks doing the same: one block with the losses and seconds of all."""
        loss, seconds = (x.sum(axis=1, keepdims=True) for x in (self.loss, self.seconds))
        return replace(self, loss=loss, seconds=seconds)

    def reuse(self, length: np.ndarray, reused: np.ndarray) -> tuple[float, float]:
        """Loss and seconds of the windows of a plan in which all blocks are left out."""
        steps = np.flatnonzero(reused)
        if not len(steps):
            return 0.0, 0.0
        assert self.reuse_loss is not None
        assert self.reuse_seconds is not None
        gap, before = length[steps] - 1, left_out_before(length, reused)[steps]
        return float(self.reuse_loss[steps, before, gap].sum()), float(self.reuse_seconds[gap].sum())


def left_out_before(length: np.ndarray, reused: np.ndarray) -> np.ndarray:
    """(steps,) how many steps are left out right before every step; arguments as of `Plan`."""
    steps = np.flatnonzero(reused)
    found, after = np.zeros(len(length), dtype=int), steps + length[steps] + 1
    there = after < len(length)
    found[after[there]] = length[steps[there]]
    return found


@dataclass(frozen=True)
class Plan:
    """What is done.

    Attributes:
        length: (steps,) steps that the window goes on for whose refresh is at a step, 0 where there is none.
        program: (blocks, steps) index of what the blocks do in that window; `FULL` also where there is none.
        reused: (steps,) bool, in that window all blocks are left out, whatever `program` says, which is `FULL`.
        loss, seconds: of all windows.
        bound: no plan within the budget has less loss; minus infinity when unknown.
    """

    length: np.ndarray
    program: np.ndarray
    reused: np.ndarray
    loss: float
    seconds: float
    bound: float = -np.inf

    def tables(self, programs: tuple[Program, ...]) -> tuple[np.ndarray, np.ndarray]:
        """(blocks, steps) rates of the queries, and actions."""
        rates, actions = np.zeros(self.program.shape), np.zeros(self.program.shape, dtype=np.int8)
        for block, step in np.argwhere(self.program != FULL):
            program, last = programs[self.program[block, step]], step + self.length[step]
            actions[block, step] = Action.REFRESH
            actions[block, step + 1 : last + 1] = program.action
            rates[block, step + 1 : last + 1] = program.rate
        return rates, actions

    def left_out(self) -> np.ndarray:
        """(steps,) bool, all blocks are left out at the step."""
        found = np.zeros(len(self.length), dtype=bool)
        for step in np.flatnonzero(self.reused):
            found[step + 1 : step + self.length[step] + 1] = True
        return found


def evaluate(
    problem: WindowProblem,
    length: np.ndarray,
    program: np.ndarray,
    reused: np.ndarray | None = None,
    bound: float = -np.inf,
) -> Plan:
    """Loss and seconds of a plan, see `Plan`; without `reused` no window leaves all blocks out."""
    reused = np.zeros(problem.steps, dtype=bool) if reused is None else reused
    block, step = np.nonzero(program != FULL)
    which, gap = program[block, step], length[step] - 1
    loss, seconds = problem.reuse(length, reused)
    loss += float(problem.loss[which, block, step, gap].sum())
    seconds += float(problem.seconds[which, block, gap].sum())
    return Plan(length, program, reused, loss, seconds, bound)
