"""Decides at every attention call what to reduce, and does it (paper equations 4 and 5)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from asymrnr.actions import Action
from asymrnr.adapters import ModelAdapter
from asymrnr.call import Attention, Call, Layout
from asymrnr.envelope import Envelope
from asymrnr.memory import Memory, storage_bytes
from asymrnr.observation import AttentionCall, Observer
from asymrnr.one_thread import OneThread
from asymrnr.partition import Grid, chunk_counts, make_partition, window_seed
from asymrnr.reduction import Match, Plan, check_rate
from asymrnr.restoration import attend_with_memory
from asymrnr.schedule import Schedule
from asymrnr.site import Site
from asymrnr.summary import Counter
from asymrnr.tracker import StepTracker


@dataclass
class _Entry:
    """A matching and the plan last made from it, both valid for one cache window; and the bytes that both hold."""

    match: Match
    cut: tuple[float, int, int] | None = None
    plan: Plan | None = None
    bytes: int = 0

    def tensors(self) -> list[torch.Tensor]:
        match, plan = self.match, self.plan
        found = [match.order, match.slot, match.mean_distance, match.partition.src, match.partition.dst]
        return found if plan is None else [*found, plan.take, plan.back]


class Engine:
    """State of one applied schedule or observer: step, matching cache, counts.

    Attributes:
        adapter: facts about the model.
        schedule: what to reduce; None when only observing.
        observer: who is shown every call; None when reducing.
        envelope: what the schedule was made for; None where there is nothing to say of it any more.
        memory: what refreshes left for later steps; None without actions.
        tracker: step, branch and generation.
        one_thread: refuses a second thread.
        counter: what was reduced.
        sites: all sites of all denoisers.
        timesteps: of the generation, as the sampler has them and as numbers; None where it did not tell.
        last_step: last denoising step of the generation, where that is known from them.
        caches: what empties the caches that the schedule brought, see `new_generation`.
        left_out: whether one of them stood in for the running forward pass, or the one finished last.
        handle: what removes it; None before it is installed.
        strict: fail after the first forward pass that does not do what the schedule says.
    """

    def __init__(
        self,
        adapter: ModelAdapter,
        blocks: int,
        schedule: Schedule | None = None,
        observer: Observer | None = None,
        envelope: Envelope | None = None,
    ) -> None:
        self.adapter = adapter
        self.schedule = schedule
        self.observer = observer
        self.envelope = envelope
        self.memory = None if schedule is None or schedule.actions is None else Memory(schedule)
        self.tracker = StepTracker()
        self.one_thread = OneThread()
        self.counter = Counter(schedule, blocks)
        self.sites: list[Site] = []
        self.timesteps: tuple[torch.Tensor | None, list[float]] | None = None
        self.last_step: int | None = None
        self.caches: list[Callable[[], None]] = []
        self.left_out = False
        self.handle: Any = None
        self.strict = False
        self._grids: list[Grid] = []
        self._generation = -1
        self._cache: dict[tuple[object, ...], _Entry] = {}
        self._window: tuple[int, int] | None = None

    def begin(
        self,
        timestep: float,
        branch: str | None,
        step_index: int | None,
        grids: list[Grid],
        model: int = 0,
        shape: tuple[int, ...] = (),
    ) -> None:
        """Called before every forward pass of a denoiser.

        Args:
            timestep, branch, step_index: see `StepTracker.observe`.
            grids: token grids the sites of this pass may have, largest first.
            model: which of the pipeline's denoisers.
            shape: of its input.

        Raises:
            ScheduleError: a rate is out of reach on the grid.
            InterceptionError: another thread is in a forward pass.
        """
        self.one_thread.enter()
        self.left_out = False
        self.tracker.observe(timestep, branch, step_index)
        if self.tracker.generation != self._generation:
            self._generation = self.tracker.generation
            self.last_step = self._steps_from(timestep)
            self.counter.start_generation()
            self.forget()
            self._check_workload(grids[0])
            self._check_rates(grids[0])
        self._grids = grids
        column = self.schedule.column(self.tracker.step, timestep) if self.schedule else 0
        memory = self.memory
        actions = None if memory is None else memory.enter(model, self.tracker.branch, shape, column)
        self.counter.start_forward(column, actions)
        for site in self.sites:
            site.call = 0

    def _steps_from(self, first: float) -> int | None:
        """Steps after the one at a timestep; pipelines that start from a video leave the sampler's first ones out."""
        if self.timesteps is None:
            return None
        _, timesteps = self.timesteps
        left_out = timesteps.index(first) if first in timesteps else 0
        return len(timesteps) - 1 - left_out

    def new_generation(self) -> None:
        """A generation begins with the next forward pass; called outside of any.

        Raises:
            InterceptionError: another thread is in a forward pass.
        """
        self.one_thread.check()
        self.tracker.new_generation()
        for reset in self.caches:
            reset()

    def finish(self) -> list[int]:
        """Called after every completed forward pass; returns the rows whose attention was not called.

        Raises:
            InterceptionError: another thread was refused meanwhile.
        """
        self.one_thread.finish()
        if self.memory is not None and self.tracker.step == self.last_step:
            self.memory.leave(others=True)  # decoding the video needs the space
        return self.counter.finish_forward(self.tracker.step)

    def forget(self) -> None:
        """Drop all matchings, and all memory."""
        self._cache.clear()
        self._window = None
        if self.memory is not None:
            self.memory.forget()

    def mark_held(self) -> None:
        """Note how much is kept for later steps now."""
        refreshed = 0 if self.memory is None else self.memory.held()
        self.counter.mark_held(refreshed + sum(entry.bytes for entry in self._cache.values()))

    def rate(self, feature: str, row: int) -> float:
        """Rate of a feature at a row in the running forward pass."""
        return self.counter.planned_rate(feature, row)

    def locate(self, length: int) -> tuple[Grid, slice] | None:
        """Token grid and place of the video tokens in a joint sequence, or None when there are none."""
        for grid in self._grids:
            tokens = math.prod(grid)
            if tokens == length:
                return grid, slice(0, length)
            if tokens < length and self.adapter.video != "only":
                first = self.adapter.video == "first"
                return grid, slice(0, tokens) if first else slice(length - tokens, length)
        return None

    def attend(
        self,
        site: Site,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        layout: Layout,
        attention: Attention,
        backend: str | None = None,
    ) -> torch.Tensor:
        """Stand in for one attention call.

        Args:
            site: where.
            query, key, value: (batch, heads, tokens, head dim), or with layout "bshd" tokens before heads.
            mask: as the operation takes it.
            layout: order of the axes.
            attention: the operation.
            backend: see `AttentionCall`.

        Returns:
            The attention output at full length, in the given layout.
        """

        q, k, v = (x if layout == "bhsd" else x.transpose(1, 2) for x in (query, key, value))
        length = q.shape[2]
        located = self.locate(length) if k.shape[2] == length and not site.symmetric else None
        if located is None:
            return attention(query, key, value, mask)
        call = Call(q, k, v, mask, layout, attention, site.call, *located)
        site.call += 1
        self.counter.mark_call(site.row)
        if self.observer is not None:
            output = call.full()
            self.observer(self._seen(site, call, output, backend))
            return output
        action = self.counter.action(site.row)
        if action != Action.REDUCE:
            return attend_with_memory(site, call, action)
        rate_q, rate_v = self.rate("Q", site.row), self.rate("V", site.row)
        if rate_q == rate_v == 0:
            return call.full()
        place = call.grid, call.video
        plan_q = self.plan(site, "Q", call.index, q, *place, rate_q) if rate_q else None
        plan_v = self.plan(site, "V", call.index, v, *place, rate_v) if rate_v else None
        mean = self.schedule is not None and self.schedule.reduction == "mean"
        return call.reduced(plan_q, plan_v, mean, self.adapter.uniform_mask)

    def plan(
        self, site: Site, feature: str, call: int, features: torch.Tensor, grid: Grid, video: slice, rate: float
    ) -> Plan:
        """The plan of a joint sequence, matched at most once per cache window (paper section 3.5).

        Args:
            site, feature, call: what is reduced.
            features: (batch, heads, joint tokens, head dim).
            grid, video: see `locate`.
            rate: share of the video tokens to drop.

        Raises:
            ScheduleError: the rate is out of reach.
        """
        assert self.schedule is not None
        window = self.tracker.step // self.schedule.cache_step
        if self._window != (self.tracker.generation, window):
            self._cache.clear()
            self._window = (self.tracker.generation, window)
        # FasterCache leaves out half of the batch in some steps, so that the i-th call is another item's.
        key = (site.model, site.row, feature, self.tracker.branch, site.batch, call, grid, features.shape[:2])
        entry = self._cache.get(key)
        if entry is None:
            match = self.match(feature, site.row, features, grid, video, window)
            entry = self._cache[key] = _Entry(match)
        cut = (rate, video.start, features.shape[2] - video.stop)
        if entry.plan is None or entry.cut != cut:
            entry.cut, entry.plan = cut, entry.match.plan(rate).joint(*cut[1:])
            entry.bytes = storage_bytes(entry.tensors())
            self.mark_held()
        self.counter.mark_reduced(feature, site.row)
        return entry.plan

    def match(self, feature: str, row: int, features: torch.Tensor, grid: Grid, video: slice, window: int) -> Match:
        """Match the video tokens of a joint sequence.

        Args:
            feature, row: what is reduced.
            features, grid, video: see `plan`.
            window: decides the destinations, see `window_seed`.
        """
        schedule = self.schedule
        assert schedule is not None
        generator = torch.Generator().manual_seed(window_seed(schedule.seed, feature, row, window))
        partition = make_partition(grid, schedule.stride, generator, schedule.coverage)
        self.counter.mark_match()
        return Match.of(features[:, :, video], partition, schedule.metric, generator, schedule.match_radius)

    def _seen(self, site: Site, call: Call, output: torch.Tensor, backend: str | None) -> AttentionCall:
        hidden = site.hidden
        assert hidden is not None
        if call.query.shape[0] == 1 and hidden.shape[0] > 1:  # one call per batch item
            hidden = hidden[call.index : call.index + 1]
        located = self.locate(hidden.shape[1])
        if located is not None:
            hidden = hidden[:, located[1]]
        return AttentionCall.of(call, site.row, self.tracker, output, hidden, self.adapter.uniform_mask, backend)

    def _check_workload(self, grid: Grid) -> None:
        steps = None if self.last_step is None else self.last_step + 1
        if self.envelope is not None and self.envelope.warn_outside(steps, grid):
            self.envelope = None

    def _check_rates(self, grid: Grid) -> None:
        if self.schedule is None:
            return
        n_dst = math.prod(chunk_counts(grid, self.schedule.stride, self.schedule.coverage))
        for table in self.schedule.rates.values():
            check_rate(float(table.max()), math.prod(grid), n_dst)
