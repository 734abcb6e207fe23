"""Answers every intercepted attention call: reduces, attends, restores, counts; or lets an observer look."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from asymrnr.adapters import Adapter
from asymrnr.errors import ScheduleError
from asymrnr.intercept import Attend
from asymrnr.masks import reduce_mask
from asymrnr.partition import Grid, make_partition, window_seed
from asymrnr.reduction import Match, Plan, average_tokens, gather_tokens
from asymrnr.schedule import Schedule
from asymrnr.tracker import StepTracker


@dataclass(frozen=True)
class AttentionCall:
    """One self-attention call, as an observer sees it.

    Attributes:
        block: row of a schedule.
        step: denoising step of this generation, from 0.
        timestep: the sampler's timestep.
        branch: guidance branch.
        call: number of this call within the site's forward pass (some models call once a batch item).
        grid: (t, h, w) video tokens.
        video: where video tokens lie in the joint sequence.
        query: (batch, heads, joint tokens, head dim), after RoPE; `key`, `value` and `output` alike.
        hidden: (batch, video tokens, channels) entering the attention processor.
    """

    block: int
    step: int
    timestep: float
    branch: str
    call: int
    grid: Grid
    video: slice
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    output: torch.Tensor
    hidden: torch.Tensor


Observer = Callable[[AttentionCall], None]


@dataclass
class _Cached:
    """A match and the plans made from it, valid for one window of one generation and one shape."""

    tag: tuple[object, ...]
    match: Match
    plans: dict[float, Plan] = field(default_factory=dict)


@dataclass
class Counts:
    """What happened in one generation, per (block, schedule column)."""

    calls: np.ndarray
    reduced: dict[str, np.ndarray]
    matches: int = 0
    steps: set[int] = field(default_factory=set)


class Engine:
    """State shared by the sites of one denoiser."""

    def __init__(self, adapter: Adapter, blocks: int, schedule: Schedule | None, observer: Observer | None) -> None:
        self.adapter = adapter
        self.schedule = schedule
        self.observer = observer
        self.tracker = StepTracker()
        self.grid: Grid = (0, 0, 0)
        self.column = 0
        self.sites = [AttentionSite(self, block) for block in range(blocks)]
        self.counts = self._fresh_counts()
        self._counted_generation = self.tracker.generation

    def _fresh_counts(self) -> Counts:
        shape = (len(self.sites), self.schedule.steps if self.schedule else 1)
        features = self.schedule.rates if self.schedule else ()
        return Counts(np.zeros(shape, int), {feature: np.zeros(shape, int) for feature in features})

    def begin_pass(self, timestep: float, branch: str | None, grid: Grid) -> None:
        """The denoiser starts a forward pass."""
        self.tracker.observe(timestep, branch)
        if self.tracker.generation != self._counted_generation:
            self._counted_generation = self.tracker.generation
            self.counts = self._fresh_counts()
        self.grid = grid
        self.column = self.schedule.column(self.tracker.step, timestep) if self.schedule else 0
        self.counts.steps.add(self.tracker.step)
        for site in self.sites:
            site.call = 0

    def check(self) -> None:
        """Raise ScheduleError when the last generation reduced less than the schedule says."""
        if self.schedule is None or not self.counts.steps:
            return
        silent = np.flatnonzero(self.counts.calls.sum(1) == 0)
        if silent.size:
            raise ScheduleError(
                f"The schedule was inert: attention of blocks {silent.tolist()} was never intercepted in the last "
                "generation; remove it and report the model and its versions."
            )
        for feature, table in self.schedule.rates.items():
            missed = (table > 0) & (self.counts.calls > 0) & (self.counts.reduced[feature] == 0)
            if missed.any():
                raise ScheduleError(
                    f"The schedule reduced {feature} at {int((self.counts.reduced[feature] > 0).sum())} of "
                    f"{int(((table > 0) & (self.counts.calls > 0)).sum())} sites in the last generation; "
                    "it does not fit this model."
                )


class AttentionSite:
    """One self-attention module."""

    def __init__(self, engine: Engine, block: int) -> None:
        self.engine = engine
        self.block = block
        self.call = 0
        self._hidden: torch.Tensor | None = None
        self._cache: dict[tuple[object, ...], _Cached] = {}

    def hidden(self, hidden_states: torch.Tensor) -> None:
        self._hidden = hidden_states if self.engine.observer is not None else None

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, attend: Attend
    ) -> torch.Tensor:
        engine = self.engine
        joint, tokens = query.shape[2], math.prod(engine.grid)
        if key.shape[2] != joint or joint < tokens:  # cross-attention, or a level of another resolution
            return attend(query, key, value, mask)
        video = slice(0, tokens) if engine.adapter.video == "first" else slice(joint - tokens, joint)
        call, self.call = self.call, self.call + 1
        engine.counts.calls[self.block, engine.column] += 1
        if engine.observer is not None:
            output = attend(query, key, value, mask)
            self._show(query, key, value, output, video, call)
            return output
        schedule = engine.schedule
        rate_q = schedule.rate("Q", self.block, engine.column) if schedule else 0.0
        rate_v = schedule.rate("V", self.block, engine.column) if schedule else 0.0
        if rate_q <= 0 and rate_v <= 0:
            return attend(query, key, value, mask)
        plan_q = self._plan("Q", query[:, :, video], rate_q, call) if rate_q > 0 else None
        plan_v = self._plan("V", value[:, :, video], rate_v, call) if rate_v > 0 else None
        if plan_q is not None:
            query = self._join(gather_tokens(query[:, :, video], plan_q.take), query, video)
        if plan_v is not None:
            assert schedule is not None
            mean = schedule.reduction == "mean"
            key, value = (
                self._join(
                    average_tokens(x[:, :, video], plan_v) if mean else gather_tokens(x[:, :, video], plan_v.take),
                    x,
                    video,
                )
                for x in (key, value)
            )
        if mask is not None:
            mask = reduce_mask(mask, plan_q, plan_v, video, engine.adapter.video == "first")
        output = attend(query, key, value, mask)
        if plan_q is None:
            return output
        kept = plan_q.take.shape[-1]
        first = engine.adapter.video == "first"
        reduced = slice(0, kept) if first else slice(output.shape[2] - kept, output.shape[2])
        return self._join(gather_tokens(output[:, :, reduced], plan_q.back), output, reduced)

    def _join(self, tokens: torch.Tensor, joint: torch.Tensor, video: slice) -> torch.Tensor:
        """`joint` with its video part replaced by `tokens`; the text stays where it is."""
        if self.engine.adapter.video == "first":
            return torch.cat([tokens, joint[:, :, video.stop :]], 2)
        return torch.cat([joint[:, :, : video.start], tokens], 2)

    def _plan(self, feature: str, features: torch.Tensor, rate: float, call: int) -> Plan:
        """The reduction at this site, matched anew only in a new cache window, generation, branch or shape."""
        engine = self.engine
        assert engine.schedule is not None
        schedule, tracker = engine.schedule, engine.tracker
        window = tracker.step // schedule.cache_step
        tag = (tracker.generation, window, engine.grid, features.shape[:2])
        slot = (feature, tracker.branch, call)
        cached = self._cache.get(slot)
        if cached is None or cached.tag != tag:
            seed = window_seed(schedule.seed, feature, self.block, window)
            generator = torch.Generator().manual_seed(seed)
            partition = make_partition(engine.grid, schedule.stride, generator, schedule.coverage, features.device)
            cached = _Cached(tag, Match.of(features, partition, schedule.metric, generator))
            self._cache[slot] = cached
            engine.counts.matches += 1
        if rate not in cached.plans:
            cached.plans[rate] = cached.match.plan(rate)
        engine.counts.reduced[feature][self.block, engine.column] += 1
        return cached.plans[rate]

    def _show(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        output: torch.Tensor,
        video: slice,
        call: int,
    ) -> None:
        engine, hidden = self.engine, self._hidden
        assert engine.observer is not None and hidden is not None
        tokens = video.stop - video.start
        if hidden.shape[1] > tokens:  # the processor got the joint sequence
            hidden = hidden[:, :tokens] if engine.adapter.video == "first" else hidden[:, -tokens:]
        tracker = engine.tracker
        engine.observer(
            AttentionCall(
                block=self.block,
                step=tracker.step,
                timestep=tracker.timestep,
                branch=tracker.branch,
                call=call,
                grid=engine.grid,
                video=video,
                query=query,
                key=key,
                value=value,
                output=output,
                hidden=hidden,
            )
        )
