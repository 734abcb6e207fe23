"""Schedules that restore with memory and broadcast, made of what the profile and the latency model say of every window.

Several kinds, all judged by one yardstick: every block with programs of its own; the same where early errors are taken
to be worth more, which models do not agree on, so that a measurement has to tell; all blocks alike, which believes
nothing of what one generation says of single blocks; and the same window again and again after a lead, which is what
one would write by hand. What a plan leaves of the time wanted, single blocks use up with gentler programs. Where the
search may plan it, windows may leave all blocks out instead, and extrapolate what the denoiser gave, or add again what
the blocks added, whichever gets less wrong in the profile; then one kind more computes every step, because what leaving
one out is worth beside an error of attention was not measured on the model.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import get_args

import numpy as np
import torch

from asymrnr.actions import Action
from asymrnr.partner import Partner
from asymrnr.schedule import Schedule
from asymrnr.storage import Storage
from tuner.latency.model import LatencyModel
from tuner.profile.profile import Profile
from tuner.search.footprint import blocks_within, window_bytes
from tuner.search.leftover import spend
from tuner.search.losses import between, pooled, window_losses
from tuner.search.paths import corners, fastest, solve
from tuner.search.result import Candidate, FrontierPoint, Recipe, Sharing, Window
from tuner.search.reuse import residual_steps, reuse_losses
from tuner.search.space import SearchSpace
from tuner.search.table import undominated
from tuner.search.windows import FULL, Plan, Program, WindowProblem, evaluate
from tuner.strides import parse_stride

KINDS: dict[Sharing, str] = {
    "refreshes": "memory and broadcasting, block by block",
    "early": "memory and broadcasting, early errors worth more",
    "computed": "memory and broadcasting, every step computed",
    "alike": "memory and broadcasting, all blocks alike",
    "windows": "one window again and again",
}
REUSE = -2  # in place of a program: all blocks are left out
LONGEST_TAIL = 2  # steps in full at the end that a uniform schedule may have
FRONTIER_POINTS = 30
TOLERANCE = 1e-6


class MemorySolver:
    """Finds the best windows for any speed.

    Attributes:
        profile, model: what was measured.
        programs: what windows may do.
    """

    def __init__(self, profile: Profile, model: LatencyModel, space: SearchSpace) -> None:
        """
        Args:
            profile: with errors with memory.
            model: predicts seconds.
            space: what may be chosen.
        """
        self.profile, self.model, self._space = profile, model, space
        beside = model.alongside
        self._steps = np.arange(profile.steps) if beside is None else np.flatnonzero(beside.computed)
        self.stride, memory = next(iter(profile.memory_error.items()))
        reachable = np.isfinite(memory[:, -1, 0]).all(axis=0)  # (R,)
        self._memory, self._broadcast = (
            between(error, self._steps) for error in (memory, profile.broadcast_error[self.stride])
        )
        rates = profile.rates[reachable & (profile.rates >= space.memory_rates_from)]
        self.programs = (Program(Action.BROADCAST), *(Program(Action.MEMORY, float(rate)) for rate in rates))
        itemsize = getattr(torch, profile.workload.get("dtype", "float32")).itemsize
        harm = np.nanmean(self._broadcast[:, :, 0], axis=1)
        for storage in get_args(Storage):  # in 8 bits only where there is no room for all blocks otherwise
            most = np.max([window_bytes(model.sites, each, itemsize, storage) for each in self.programs], axis=0)
            within = blocks_within(most, harm, space.memory_bytes)
            self._storage: Storage = storage
            if within.all():
                break
        self._allowed = np.flatnonzero(within)
        self._reuse_losses = reuse_losses(profile, space.reuse_weights(profile.levels), self._memory.shape[2])
        self._freest: dict[float, Plan] = {}  # by speed-up; every kind's bound comes from it

    @cached_property
    def problem(self) -> WindowProblem:
        """Every block that the limit on memory allows windows, told apart as far as `SearchSpace.memory_trust` says."""
        losses = self._losses(self._space.step_weights(self.profile.levels))
        seconds = [self._seconds(program)[self._allowed] for program in self.programs]
        return WindowProblem(self.programs, losses, np.stack(seconds), *self._reuse())

    @cached_property
    def early(self) -> WindowProblem:
        """The same where early errors are worth more; no yardstick."""
        return replace(self.problem, loss=self._losses(self._space.steering_weights(self.profile.levels)))

    @cached_property
    def computed(self) -> WindowProblem:
        """The same where no step may be left out."""
        return replace(self.problem, reuse_loss=None, reuse_seconds=None)

    def _losses(self, of_steps: np.ndarray) -> np.ndarray:
        """(programs, blocks, steps, gaps) of windows, by what errors of every step weigh."""
        weights, trust = of_steps[self._steps], self._space.memory_trust
        losses = []
        for program in self.programs:
            error = self._broadcast
            if program.action == Action.MEMORY:
                error = self._memory[..., int(np.argmin(np.abs(self.profile.rates - program.rate)))]
            error = pooled(np.where(np.isnan(error), np.inf, error), trust)
            losses.append(window_losses(weights[:, None] * error)[self._allowed])
        return np.stack(losses)

    def _reuse(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """(steps, before, gaps) losses and (gaps,) seconds of windows without the blocks, where that is known."""
        losses, share = self._reuse_losses, self.model.reused_share
        if losses is None or share is None or not self._space.reuse or self.model.alongside is not None:
            return None, None
        seconds = -np.arange(1, losses.shape[3] + 1) * (1 - share) * self.model.step_seconds
        return losses.min(axis=0), seconds

    def _seconds(self, program: Program) -> np.ndarray:
        """(blocks, gaps) of windows beyond what their steps take in full."""
        rate = program.rate
        full, first, other = (
            self.model.action_seconds(action, q, 0.0, self.stride)
            for action, q in ((Action.REDUCE, 0.0), (Action.REFRESH, rate), (program.action, rate))
        )
        gaps = np.arange(1, self._memory.shape[2] + 1)
        return (first - full)[:, None] + gaps * (other - full)[:, None]

    def budget(self, speedup: float) -> float:
        """Seconds beyond computing everything in full, but for what a cache leaves out, that a speed-up leaves."""
        return self.model.baseline_seconds * (1 / speedup - self._share)

    def speedup(self, plan: Plan) -> float:
        """Predicted denoising speed-up."""
        seconds = self.model.baseline_seconds
        return seconds / (seconds * self._share + plan.seconds)

    @property
    def _share(self) -> float:
        return 1.0 if self.model.alongside is None else self.model.alongside.share

    @cached_property
    def attainable(self) -> float:
        """Highest predicted speed-up."""
        return self.speedup(fastest(self.problem))

    def plan(self, sharing: Sharing, speedup: float, window: Window | None = None) -> Plan:
        """The plan of a kind for a speed-up, or its fastest where that is out of reach.

        Args:
            sharing: the kind.
            speedup: denoising speed-up wanted.
            window: what comes again and again where all windows are shared; the best one by default.

        Returns:
            Judged by the yardstick of `problem`.
        """
        budget = self.budget(speedup)
        if sharing == "early":
            found = solve(self.early, budget)
            plan = fastest(self.early) if found is None else spend(self.early, found, budget)
            return evaluate(self.problem, plan.length, plan.program, plan.reused)
        if sharing == "windows":
            return self._spread(self._uniform(self.problem.alike(), speedup, window)[0], budget)
        problem = self.computed if sharing == "computed" else self.problem
        alike = solve(problem.alike(), budget)
        if sharing == "alike":
            return self._spread(fastest(problem.alike()) if alike is None else alike, budget)
        free = solve(problem, budget)
        if free is None:
            return fastest(problem)
        free = spend(problem, free, budget)
        if alike is None:
            return free
        # Numbers of steps without their blocks are tried around the first one found, which may be a better one here.
        spread = self._spread(alike, budget)
        return replace(spread, bound=free.bound) if spread.loss < free.loss else free

    def _free(self, speedup: float) -> Plan:
        """The plan of the freest kind, solved once for a speed-up."""
        if speedup not in self._freest:
            self._freest[speedup] = self.plan("refreshes", speedup)
        return self._freest[speedup]

    def _spread(self, plan: Plan, budget: float) -> Plan:
        """What all blocks do alike as a plan of them all, and what it leaves of the budget used up."""
        program = np.repeat(plan.program, self.problem.blocks, axis=0)
        return spend(self.problem, evaluate(self.problem, plan.length, program, plan.reused), budget)

    def _uniform(self, alike: WindowProblem, speedup: float, window: Window | None) -> tuple[Plan, Window]:
        """The windows of least loss, all alike, that reach a speed-up, or the fastest ones."""
        steps, gaps = alike.steps, alike.loss.shape[3]
        programs = [*range(len(self.programs)), *([] if alike.reuse_loss is None else [REUSE])]
        every = [Window(program, gap) for program in programs for gap in range(1, min(gaps, steps - 1) + 1)]
        best: tuple[Plan, Window] | None = None
        quickest: tuple[Plan, Window] | None = None
        for one in every if window is None else [window]:
            for tail in range(min(LONGEST_TAIL, steps - 1 - one.gap) + 1):
                for lead in reversed(range(steps - tail - one.gap)):  # the longest that is fast enough
                    plan = uniform_plan(alike, one, lead, tail)
                    if quickest is None or plan.seconds < quickest[0].seconds:
                        quickest = plan, one
                    if self.speedup(plan) >= speedup:
                        if best is None or plan.loss < best[0].loss:
                            best = plan, one
                        break
        if quickest is None:  # a cache leaves no two steps
            return fastest(alike), Window(0, 1)
        return best or quickest

    def schedule(self, plan: Plan) -> Schedule:
        """The plan as a schedule for the profiled sampler and destinations."""
        shape = (self.profile.blocks, self.profile.steps)
        rates, actions = np.zeros(shape), np.zeros(shape, dtype=np.int8)
        of_plan = np.ix_(self._allowed, self._steps)
        rates[of_plan], actions[of_plan] = plan.tables(self.programs)
        left_out, beside = plan.left_out(), self.model.alongside
        partner = None
        if left_out.any():
            assert self._reuse_losses is not None
            partner = Partner.planned(left_out, residual_steps(self._reuse_losses, plan))
        return Schedule(
            rates={"Q": rates},
            actions=actions,
            partner=partner if beside is None else beside.partner,
            stride=parse_stride(self.stride),
            timesteps=tuple(self.profile.timesteps.tolist()),
            seed=self.profile.schedule_seed,
            storage=self._storage,
        )

    def candidate(self, sharing: Sharing, speedup: float, window: Window | None = None) -> Candidate:
        """The schedule of a kind for a speed-up, or its fastest; arguments of `plan`.

        A window that is not fast enough, however often it comes again, gives way to the best one that is.
        """
        if sharing == "windows":
            uniform, window = self._uniform(self.problem.alike(), speedup, window)
            if self.speedup(uniform) < speedup:
                uniform, window = self._uniform(self.problem.alike(), speedup, None)
            plan = self._spread(uniform, self.budget(speedup))
        else:
            plan = self._free(speedup) if sharing == "refreshes" else self.plan(sharing, speedup)
        schedule, freest = self.schedule(plan), self._free(speedup)
        seconds = self.model.predict(schedule)
        return Candidate(
            schedule=schedule,
            predicted_seconds=seconds,
            predicted_speedup=self.model.baseline_seconds / seconds,
            predicted_error=plan.loss,
            bound=min(plan.loss, max(0.0, freest.bound)),
            excess=1.0,
            kind=KINDS[sharing],
            label=f"{KINDS[sharing]}, Q at stride {self.stride}",
            recipe=Recipe("windows", self.stride, 1, sharing=sharing, window=window),
        )

    def candidates(self, speedup: float) -> list[Candidate]:
        """One of every kind, but for those that are not fast enough while others are, or the same as one before."""
        found: list[Candidate] = []
        for sharing in KINDS:
            if sharing == "computed" and self.problem.reuse_loss is None:  # every kind computes every step
                continue
            candidate = self.candidate(sharing, speedup)
            known = [other.schedule.content_hash() for other in found]
            if candidate.schedule.content_hash() not in known:
                found.append(candidate)
        fast = [candidate for candidate in found if candidate.predicted_speedup >= speedup * (1 - TOLERANCE)]
        return fast or found

    def frontier(self) -> list[FrontierPoint]:
        """Predicted error against speed-up of the freest kind, corner by corner."""
        plans = corners(self.problem, FRONTIER_POINTS)
        return undominated([FrontierPoint(self.speedup(plan), plan.loss) for plan in plans])


def uniform_plan(problem: WindowProblem, window: Window, lead: int, tail: int) -> Plan:
    """The same window again and again between a lead and a tail in full, the last one as long as there is room for."""
    length, program = np.zeros(problem.steps, dtype=int), np.full((problem.blocks, problem.steps), FULL)
    reused, end = np.zeros(problem.steps, dtype=bool), problem.steps - tail
    starts = np.arange(lead, end - 1, window.gap + 1)
    length[starts] = np.minimum(window.gap, end - 1 - starts)
    if window.program == REUSE:
        reused[starts] = True
    else:
        program[:, starts] = window.program
    return evaluate(problem, length, program, reused)
