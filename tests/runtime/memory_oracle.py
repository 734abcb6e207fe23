"""A reference of restoration with memory, in float64: every step from the formulas, on what the model's calls were."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from asymrnr import Action, Schedule, window_seed
from asymrnr.adapters import find_adapter
from asymrnr.engine import Engine
from asymrnr.install import find_sites
from asymrnr.masks import widen_mask
from tests.runtime import oracle

Reduced = tuple[list[int], dict[int, int]]  # tokens kept, and who stands in for every token dropped


@dataclass(frozen=True)
class Seen:
    """One attention call: where, its inputs and output (batch, heads, tokens, head dim), and the keys hidden."""

    step: int
    branch: str
    block: int
    call: int
    grid: Any
    video: slice
    qkv: tuple[np.ndarray, np.ndarray, np.ndarray]
    output: np.ndarray
    hidden: np.ndarray


@dataclass
class Recording:
    """All attention calls, and what all attention modules gave, per (step, branch, block)."""

    calls: list[Seen] = field(default_factory=list)
    modules: dict[tuple[int, str, int], tuple[torch.Tensor, ...]] = field(default_factory=dict)


@contextmanager
def recorded(model: nn.Module) -> Iterator[Recording]:
    found, original = Recording(), Engine.attend
    tracker: list[Any] = []

    def attend(self: Engine, site: Any, query: Any, key: Any, value: Any, mask: Any, layout: Any, *rest: Any) -> Any:
        call = site.call
        output = original(self, site, query, key, value, mask, layout, *rest)
        tracker[:] = [self.tracker]
        q, k, v, out = (x if layout == "bhsd" else x.transpose(1, 2) for x in (query, key, value, output))
        located = self.locate(q.shape[2])
        if located is not None and site.call > call:
            hidden = np.zeros((q.shape[0], q.shape[2]), dtype=bool)
            if mask is not None:
                wide = widen_mask(mask, q.shape[0], q.shape[2], layout == "bshd").expand(q.shape[0], -1, -1, -1)
                hides = ~wide if wide.dtype == torch.bool else wide < -1
                # A row whose every key is hidden is a padded query, whose result does not matter.
                hidden = hides[:, 0, 0].numpy()
            place = self.tracker.step, self.tracker.branch, site.row, call
            arrays = [x.detach().double().numpy() for x in (q, k, v, out)]
            found.calls.append(Seen(*place, *located, tuple(arrays[:3]), arrays[3], hidden))  # type: ignore[arg-type]
        return output

    def on_output(block: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if not tracker:
                return
            parts = output if isinstance(output, tuple) else (output,)
            key = (tracker[0].step, tracker[0].branch, block)
            found.modules[key] = tuple(part.clone() for part in parts if isinstance(part, torch.Tensor))

        return hook

    sites = find_sites(model, find_adapter(model))
    hooks = [site.register_forward_hook(on_output(block)) for block, site in enumerate(sites)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "attend", attend)
        try:
            yield found
        finally:
            for hook in hooks:
                hook.remove()


def attention(seen: Seen, item: int, head: int, queries: Reduced, keys: Reduced, mean: bool) -> np.ndarray:
    """One head, reduced and restored by copying."""
    q, k, v = (x[item, head] for x in seen.qkv)
    tokens, first = range(len(q)), seen.video.start
    text = [t for t in tokens if not seen.video.start <= t < seen.video.stop]
    rows = sorted([*text, *(first + t for t in queries[0])])
    columns = [t for t in sorted([*text, *(first + t for t in keys[0])]) if not seen.hidden[item, t]]
    groups = {t: [t] for t in columns}
    if mean:
        for dropped, destination in keys[1].items():
            if first + destination in groups:
                groups[first + destination].append(first + dropped)
    k, v = (np.array([x[group].mean(0) for group in groups.values()]) for x in (k, v))
    scores = q[rows] @ k.T / math.sqrt(q.shape[1])
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    output = np.full(q.shape[:1] + v.shape[1:], np.nan)
    output[rows] = weights / weights.sum(axis=1, keepdims=True) @ v
    for dropped, destination in queries[1].items():
        output[first + dropped] = output[first + destination]
    return output


def reduction(schedule: Schedule, seen: Seen, feature: str, rate: float, item: int, head: int) -> Reduced:
    """Which tokens stay, matched by the features of this call; with a cache step of 1, windows are steps."""
    count = math.prod(seen.grid)
    if rate == 0:
        return list(range(count)), {}
    seed = window_seed(schedule.seed, feature, seen.block, seen.step)
    split = oracle.partition(seen.grid, schedule.stride, seed, schedule.coverage)
    features = seen.qkv[0 if feature == "Q" else 2][item, head][seen.video]
    return oracle.reduce(features, *split, rate, schedule.metric)


def expected(schedule: Schedule, calls: list[Seen]) -> Iterator[tuple[Seen, np.ndarray]]:
    """What every call should have given; broadcasts make no call."""
    assert schedule.actions is not None
    zero = np.zeros((schedule.blocks, schedule.steps))
    rates = {feature: schedule.rates.get(feature, zero) for feature in "QV"}
    mean = schedule.reduction == "mean"
    memory: dict[Any, tuple[Reduced, Reduced, np.ndarray]] = {}
    for seen in calls:
        block, step = seen.block, seen.step
        action, output = schedule.actions[block, step], np.empty_like(seen.output)
        ahead = schedule.actions[block, step + 1 :]
        following = ahead[: np.argmax(ahead == 1)] if (ahead == 1).any() else ahead
        served = [step + 1 + int(i) for i in np.flatnonzero(following == Action.MEMORY)]
        for item, head in np.ndindex(*seen.output.shape[:2]):
            key = (seen.branch, block, seen.call, item, head)
            if action == Action.MEMORY:
                q, v, rest = memory[key]
                output[item, head] = attention(seen, item, head, q, v, mean) + rest
                continue
            if action == Action.REDUCE:
                q, v = (reduction(schedule, seen, f, rates[f][block, step], item, head) for f in "QV")
                output[item, head] = attention(seen, item, head, q, v, mean)
                continue
            everything: Reduced = (list(range(math.prod(seen.grid))), {})
            output[item, head] = attention(seen, item, head, everything, everything, False)
            if served:
                q, v = (reduction(schedule, seen, f, rates[f][block, served[0]], item, head) for f in "QV")
                memory[key] = q, v, output[item, head] - attention(seen, item, head, q, v, mean)
        yield seen, output
