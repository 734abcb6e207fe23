"""Decides at every attention call what to reduce, and does it (paper equations 4 and 5)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from asymrnr.adapters import ModelAdapter
from asymrnr.compile_op import register_site
from asymrnr.masks import reduce_mask, widen_mask
from asymrnr.observation import AttentionCall, Observer
from asymrnr.partition import Grid, chunk_counts, make_partition, window_seed
from asymrnr.reduction import Match, Plan, check_rate
from asymrnr.schedule import Schedule
from asymrnr.summary import Counter
from asymrnr.tracker import StepTracker

Layout = Literal["bhsd", "bshd"]
Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]


@dataclass(eq=False)
class Site:
    """One self-attention layer.

    Attributes:
        engine: what reduces it.
        model: which of the pipeline's denoisers it belongs to.
        row: its row in the rate tables.
        call: how often its attention was called in this forward pass (Mochi: once per batch item).
        batch: batch size of the running processor call; 0 in compiled code.
        hidden: hidden states of the running processor call, where somebody needs them.
        symmetric: the running processor call already works on a sequence reduced as a whole (H).
        number: names the site in compiled code.
    """

    engine: Engine
    model: int
    row: int
    call: int = 0
    batch: int = 0
    hidden: torch.Tensor | None = None
    symmetric: bool = False

    def __post_init__(self) -> None:
        self.number = register_site(self)


@dataclass
class _Entry:
    """A matching and the plan last made from it, both valid for one cache window."""

    match: Match
    cut: tuple[float, int, int] | None = None
    plan: Plan | None = None


class Engine:
    """State of one applied schedule or observer: step, matching cache, counts.

    Attributes:
        adapter: facts about the model.
        schedule: what to reduce; None when only observing.
        observer: who is shown every call; None when reducing.
        tracker: step, branch and generation.
        counter: what was reduced.
        sites: all sites of all denoisers.
    """

    def __init__(
        self, adapter: ModelAdapter, blocks: int, schedule: Schedule | None = None, observer: Observer | None = None
    ) -> None:
        self.adapter = adapter
        self.schedule = schedule
        self.observer = observer
        self.tracker = StepTracker()
        self.counter = Counter(schedule, blocks)
        self.sites: list[Site] = []
        self._grids: list[Grid] = []
        self._generation = -1
        self._cache: dict[tuple[object, ...], _Entry] = {}
        self._window: tuple[int, int] | None = None

    def begin(self, timestep: float, branch: str | None, step_index: int | None, grids: list[Grid]) -> None:
        """Called before every forward pass of a denoiser.

        Args:
            timestep, branch, step_index: see `StepTracker.observe`.
            grids: token grids the sites of this pass may have, largest first.

        Raises:
            ScheduleError: a rate is out of reach on the grid.
        """
        self.tracker.observe(timestep, branch, step_index)
        if self.tracker.generation != self._generation:
            self._generation = self.tracker.generation
            self.counter.start_generation()
            self.forget()
            self._check_rates(grids[0])
        self._grids = grids
        self.counter.start_forward(self.schedule.column(self.tracker.step, timestep) if self.schedule else 0)
        for site in self.sites:
            site.call = 0

    def finish(self) -> list[int]:
        """Called after every completed forward pass; returns the rows whose attention was not called."""
        return self.counter.finish_forward(self.tracker.step)

    def forget(self) -> None:
        """Drop all matchings."""
        self._cache.clear()
        self._window = None

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

        def heads_first(x: torch.Tensor) -> torch.Tensor:  # its own inverse
            return x if layout == "bhsd" else x.transpose(1, 2)

        q, k, v = heads_first(query), heads_first(key), heads_first(value)
        length = q.shape[2]
        located = self.locate(length) if k.shape[2] == length and not site.symmetric else None
        if located is None:
            return attention(query, key, value, mask)
        grid, video = located
        call, site.call = site.call, site.call + 1
        self.counter.mark_call(site.row)
        if self.observer is not None:
            output = attention(query, key, value, mask)
            if mask is not None:
                mask = widen_mask(mask, q.shape[0], length, key_padding=layout == "bshd")
            self._show(site, call, grid, video, (q, k, v, heads_first(output)), mask, backend)
            return output
        rate_q, rate_v = self.rate("Q", site.row), self.rate("V", site.row)
        if rate_q == rate_v == 0:
            return attention(query, key, value, mask)

        plan_q = self.plan(site, "Q", call, q, grid, video, rate_q) if rate_q else None
        plan_v = self.plan(site, "V", call, v, grid, video, rate_v) if rate_v else None
        if plan_q is not None:
            q = plan_q.reduce(q)
        if plan_v is not None:
            reduce = plan_v.reduce_mean if self.schedule and self.schedule.reduction == "mean" else plan_v.reduce
            k, v = reduce(k), reduce(v)
        if mask is not None:
            mask = widen_mask(mask, q.shape[0], length, key_padding=layout == "bshd")
            mask = reduce_mask(mask, plan_q, plan_v, video, self.adapter.uniform_mask)
        output = attention(heads_first(q), heads_first(k), heads_first(v), mask)
        if plan_q is not None:
            output = heads_first(plan_q.restore(heads_first(output)))
        return output

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
            self.forget()
            self._window = (self.tracker.generation, window)
        # FasterCache leaves out half of the batch in some steps, so that the i-th call is another item's.
        key = (site.model, site.row, feature, self.tracker.branch, site.batch, call, grid, features.shape[:2])
        entry = self._cache.get(key)
        if entry is None:
            generator = torch.Generator().manual_seed(window_seed(self.schedule.seed, feature, site.row, window))
            partition = make_partition(grid, self.schedule.stride, generator, self.schedule.coverage)
            settings = self.schedule.metric, generator, self.schedule.match_radius
            match = Match.of(features[:, :, video], partition, *settings)
            entry = self._cache[key] = _Entry(match)
            self.counter.mark_match()
        cut = (rate, video.start, features.shape[2] - video.stop)
        if entry.plan is None or entry.cut != cut:
            entry.cut, entry.plan = cut, entry.match.plan(rate).joint(*cut[1:])
        self.counter.mark_reduced(feature, site.row)
        return entry.plan

    def _check_rates(self, grid: Grid) -> None:
        if self.schedule is None:
            return
        n_dst = math.prod(chunk_counts(grid, self.schedule.stride, self.schedule.coverage))
        for table in self.schedule.rates.values():
            check_rate(float(table.max()), math.prod(grid), n_dst)

    def _show(
        self,
        site: Site,
        call: int,
        grid: Grid,
        video: slice,
        tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None,
        backend: str | None,
    ) -> None:
        assert self.observer is not None
        assert site.hidden is not None
        query, key, value, output = tensors
        hidden = site.hidden
        if query.shape[0] == 1 and hidden.shape[0] > 1:  # one call per batch item
            hidden = hidden[call : call + 1]
        located = self.locate(hidden.shape[1])
        if located is not None:
            hidden = hidden[:, located[1]]
        tracker = self.tracker
        assert tracker.timestep is not None
        self.observer(
            AttentionCall(
                block=site.row,
                step=tracker.step,
                timestep=tracker.timestep,
                branch=tracker.branch,
                call=call,
                grid=grid,
                video=video,
                query=query,
                key=key,
                value=value,
                output=output,
                hidden=hidden,
                mask=mask,
                uniform_mask=self.adapter.uniform_mask,
                backend=backend,
            )
        )
