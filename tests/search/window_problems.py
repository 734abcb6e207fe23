"""Small random window problems, every plan there is, and the best one as an integer program has it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from asymrnr.actions import Action
from tuner.search.memory import window_losses
from tuner.search.windows import FULL, Plan, Program, WindowProblem, evaluate

RATES = (0.4, 0.7, 0.8, 0.85)


def problem(seed: int, blocks: int = 2, steps: int = 5, gaps: int = 2, memory: int = 1) -> WindowProblem:
    """Broadcasting and `memory` rates; errors grow with the gap, and the more is spared the larger they are."""
    rng = np.random.default_rng(seed)
    programs = (Program(Action.BROADCAST), *(Program(Action.MEMORY, rate) for rate in RATES[:memory]))
    level = np.exp(rng.normal(size=(len(programs), blocks, steps, 1)))
    share = np.array([1.0, *(0.3 * rate**2 for rate in RATES[:memory])]).reshape(-1, 1, 1, 1)
    loss = np.stack([window_losses(error) for error in level * share * np.arange(1, gaps + 1)])
    saved = np.array([1.0, *(0.8 * rate for rate in RATES[:memory])])[:, None] * rng.uniform(0.7, 1.3, blocks)
    learnt = np.array([0.0, *[0.15] * memory])[:, None] * np.ones(blocks)
    return WindowProblem(programs, loss, learnt[..., None] - saved[..., None] * np.arange(1, gaps + 1))


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
    """Every plan with at least one block that does something in every window."""
    plans = []
    for length in lengths(problem):
        starts = np.flatnonzero(length)
        of_window = list(itertools.product([FULL, *range(len(problem.programs))], repeat=problem.blocks))[1:]
        for chosen in itertools.product(of_window, repeat=len(starts)):
            program = np.full((problem.blocks, problem.steps), FULL)
            for start, column in zip(starts, chosen, strict=True):
                program[:, start] = column
            plans.append(evaluate(problem, length, program))
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
    """The least loss within a budget, by HiGHS: a binary for each window, and for each program of a block in it."""
    programs, blocks, steps = problem.loss.shape[:3]
    step, gap = np.nonzero(np.isfinite(problem.loss).all(axis=(0, 1)))
    windows, choices = len(step), programs * blocks * len(step)
    loss = problem.loss[:, :, step, gap].reshape(-1)  # (programs, blocks, windows)
    seconds = problem.seconds[:, :, gap].reshape(-1)
    covered = (step <= np.arange(steps)[:, None]) & (np.arange(steps)[:, None] <= step + gap + 1)
    at_most_one = np.hstack([covered, np.zeros((steps, choices))])
    row = np.tile(np.arange(blocks * windows), programs)  # a block does one thing, and only in a window that there is
    linked = coo_array((np.ones(choices), (row, windows + np.arange(choices))), (blocks * windows, windows + choices))
    window = np.tile(np.arange(windows), blocks)
    there = coo_array((np.ones(len(window)), (np.arange(len(window)), window)), linked.shape)
    result = milp(
        np.concatenate([np.zeros(windows), loss]),
        integrality=np.ones(windows + choices),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(at_most_one, -np.inf, 1),
            LinearConstraint(linked - there, -np.inf, 0),
            LinearConstraint(np.concatenate([np.zeros(windows), seconds])[None], -np.inf, budget),
        ],
        options={"mip_rel_gap": 1e-6},
    )
    assert result.x is not None
    return float(result.fun)
