"""Small random window problems, every plan there is, and the best one as an integer program has it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from asymrnr.actions import Action
from tuner.search.losses import window_losses
from tuner.search.windows import FULL, Plan, Program, WindowProblem, evaluate

RATES = (0.4, 0.7, 0.8, 0.85)


def problem(
    seed: int, blocks: int = 2, steps: int = 5, gaps: int = 2, memory: int = 1, reuse: bool = False
) -> WindowProblem:
    """Broadcasting and `memory` rates; errors grow with the gap, and the more is spared the larger they are.

    With `reuse` all blocks may be left out, which saves and harms more than broadcasting in all of them.
    """
    rng = np.random.default_rng(seed)
    programs = (Program(Action.BROADCAST), *(Program(Action.MEMORY, rate) for rate in RATES[:memory]))
    level = np.exp(rng.normal(size=(len(programs), blocks, steps, 1)))
    share = np.array([1.0, *(0.3 * rate**2 for rate in RATES[:memory])]).reshape(-1, 1, 1, 1)
    loss = np.stack([window_losses(error) for error in level * share * np.arange(1, gaps + 1)])
    saved = np.array([1.0, *(0.8 * rate for rate in RATES[:memory])])[:, None] * rng.uniform(0.7, 1.3, blocks)
    learnt = np.array([0.0, *[0.15] * memory])[:, None] * np.ones(blocks)
    seconds = learnt[..., None] - saved[..., None] * np.arange(1, gaps + 1)
    if not reuse:
        return WindowProblem(programs, loss, seconds)
    of_all = 1.5 * loss[0].sum(0)[:, None] * np.exp(rng.normal(size=(steps, gaps + 1, 1)))
    return WindowProblem(programs, loss, seconds, of_all, 1.4 * seconds[0].sum(0))


def lengths(problem: WindowProblem) -> Iterator[np.ndarray]:
    """Every way to lay windows over the steps."""
    steps, gaps = problem.loss.shape[2:]

    def onward(step: int) -> Iterator[list[int]]:
        if step == steps:
            yield []
            return
        for gap in range(min(gaps, steps - 1 - step) + 1):
            for rest in onward(step + 1 + gap):
                yield [gap] + [0] * gap + rest

    yield from map(np.array, onward(0))


def every_plan(problem: WindowProblem) -> list[Plan]:
    """Every plan with at least one block that does something in every window, or all of them left out."""
    plans = []
    of_window: list[tuple[int, ...] | None] = [
        *list(itertools.product([FULL, *range(len(problem.programs))], repeat=problem.blocks))[1:],
        *([] if problem.reuse_loss is None else [None]),
    ]
    for length in lengths(problem):
        starts = np.flatnonzero(length)
        for chosen in itertools.product(of_window, repeat=len(starts)):
            program = np.full((problem.blocks, problem.steps), FULL)
            reused = np.zeros(problem.steps, dtype=bool)
            for start, column in zip(starts, chosen, strict=True):
                if column is None:
                    reused[start] = True
                else:
                    program[:, start] = column
            plans.append(evaluate(problem, length, program, reused))
    return plans


def random_plan(problem: WindowProblem, rng: np.random.Generator) -> Plan:
    """Windows and programs drawn without any thought of their losses."""
    steps, gaps = problem.loss.shape[2:]
    length, program, step = np.zeros(steps, dtype=int), np.full((problem.blocks, steps), FULL), 0
    while step < steps:
        length[step] = rng.integers(min(gaps, steps - 1 - step) + 1)
        if length[step]:
            program[:, step] = rng.integers(FULL, len(problem.programs), problem.blocks)
        step += 1 + length[step]
    return evaluate(problem, length, program)


def optimum(problem: WindowProblem, budget: float) -> float:
    """The least loss within a budget, by HiGHS.

    A binary for each window, for each program of a block in it, and for leaving out all blocks in it after so many
    steps that were left out.
    """
    programs, blocks, steps, gaps = problem.loss.shape
    of_reuse = np.full((steps, 1, gaps), np.inf) if problem.reuse_loss is None else problem.reuse_loss
    states = of_reuse.shape[1]
    saved = np.zeros(gaps) if problem.reuse_seconds is None else problem.reuse_seconds
    step, gap = np.nonzero(np.isfinite(problem.loss).all(axis=(0, 1)))
    windows, choices = len(step), programs * blocks * len(step)
    loss = problem.loss[:, :, step, gap].reshape(-1)  # (programs, blocks, windows)
    seconds = problem.seconds[:, :, gap].reshape(-1)
    covered = (step <= np.arange(steps)[:, None]) & (np.arange(steps)[:, None] <= step + gap + 1)
    at_most_one = np.hstack([covered, np.zeros((steps, choices + states * windows))])
    # A block does one thing, only in a window that there is, and nothing where all blocks are left out.
    shape = (blocks * windows, windows + choices + states * windows)
    row, window = np.arange(blocks * windows), np.tile(np.arange(windows), blocks)
    chosen = coo_array((np.ones(choices), (np.tile(row, programs), windows + np.arange(choices))), shape)
    there = coo_array((np.ones(len(window)), (row, window)), shape)
    columns = windows + choices + np.arange(states)[:, None] * windows + window  # (states, blocks * windows)
    left_out = coo_array((np.ones(columns.size), (np.tile(row, states), columns.reshape(-1))), shape)
    only_there = np.hstack([-np.eye(windows), np.zeros((windows, choices)), *[np.eye(windows)] * states])
    # After so many steps that were left out there is the window that left them out, or, after none, no such window.
    before, at = np.repeat(np.arange(states), windows), np.tile(step, states)
    length = np.tile(gap + 1, states)
    comes = np.zeros((states * windows, shape[1]))
    most = np.zeros(states * windows)
    for index in range(states * windows):
        comes[index, windows + choices + index] = 1
        if before[index]:
            earlier = (at == at[index] - before[index] - 1) & (length == before[index])
            comes[index, windows + choices + np.flatnonzero(earlier)] -= 1
        else:
            earlier = at + length + 1 == at[index]
            comes[index, windows + choices + np.flatnonzero(earlier)] += 1
            most[index] = 1
    lost = of_reuse[step, :, gap].T.reshape(-1)  # (states * windows,)
    reusable = np.isfinite(lost)
    result = milp(
        np.concatenate([np.zeros(windows), loss, np.where(reusable, lost, 0.0)]),
        integrality=np.ones(shape[1]),
        bounds=Bounds(0, np.concatenate([np.ones(windows + choices), reusable.astype(float)])),
        constraints=[
            LinearConstraint(at_most_one, -np.inf, 1),
            LinearConstraint(chosen - there + left_out, -np.inf, 0),
            LinearConstraint(only_there, -np.inf, 0),
            LinearConstraint(comes, -np.inf, most),
            LinearConstraint(
                np.concatenate([np.zeros(windows), seconds, np.tile(saved[gap], states)])[None], -np.inf, budget
            ),
        ],
        options={"mip_rel_gap": 1e-6},
    )
    assert result.x is not None
    return float(result.fun)
