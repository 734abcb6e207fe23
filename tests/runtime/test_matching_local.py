"""Matching restricted to the chunks around a source."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import asymrnr
from asymrnr import Schedule, ScheduleError
from asymrnr.matching import match_chunked
from asymrnr.matching_local import compared_pairs, match_local
from asymrnr.partition import Grid, Partition, make_partition
from asymrnr.reduction import Match
from tests.runtime import oracle
from tests.runtime.tiny import build, run, wan


def partition_of(grid: Grid, stride: Grid, coverage: Any = "full", seed: int = 0) -> Partition:
    return make_partition(grid, stride, torch.Generator().manual_seed(seed), coverage)


def features(tokens: int, heads: int = 2) -> torch.Tensor:
    return torch.randn(1, heads, tokens, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("radius", [0, 1, 2])
@pytest.mark.parametrize("metric", ["euclidean", "cosine", "dot"])
@pytest.mark.parametrize(
    ("grid", "stride", "coverage"),
    [((4, 6, 6), (2, 2, 2), "full"), ((5, 7, 9), (2, 3, 4), "full"), ((5, 7, 9), (2, 3, 4), "paper")],
)
def test_equals_the_reference(grid: Grid, stride: Grid, coverage: Any, metric: Any, radius: int) -> None:
    part = partition_of(grid, stride, coverage)
    x = features(part.tokens)
    distance, slot = match_local(x, part, radius, metric)
    assert (distance.dtype, slot.dtype) == (torch.float32, torch.int32)
    chunks = [oracle.chunk_of(token, grid, stride, list(part.start), list(part.chunks)) for token in range(part.tokens)]
    for head in range(2):
        want, slots = oracle.nearest_within(
            x[0, head].double().numpy(), part.dst.tolist(), part.src.tolist(), chunks, radius, metric
        )
        assert slot[0, head].tolist() == slots
        np.testing.assert_allclose(distance[0, head].numpy(), want, rtol=1e-6, atol=4e-6)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "dot"])
def test_a_radius_over_the_whole_grid_is_the_global_matching(metric: Any) -> None:
    part = partition_of((4, 6, 6), (2, 2, 2))
    x = features(part.tokens)
    local, everywhere = match_local(x, part, 2, metric), match_chunked(x, part, metric)
    assert torch.equal(local[1], everywhere[1])
    torch.testing.assert_close(local[0], everywhere[0])


def test_the_size_of_the_pieces_does_not_matter() -> None:
    part = partition_of((5, 7, 9), (2, 2, 2))
    x = features(part.tokens)
    whole = match_local(x, part, 1)
    for budget in (1, 20_000, 1 << 30):
        pieces = match_local(x, part, 1, budget_bytes=budget)
        assert torch.equal(pieces[1], whole[1])
        torch.testing.assert_close(pieces[0], whole[0])


@pytest.mark.parametrize("radius", [0, 1, 2, None])
@pytest.mark.parametrize("coverage", ["full", "paper"])
@pytest.mark.parametrize(
    ("grid", "stride"),
    [((4, 6, 6), (2, 2, 2)), ((5, 7, 9), (2, 3, 4)), ((1, 8, 11), (2, 2, 3)), ((7, 3, 5), (1, 4, 2))],
)
def test_pairs_are_counted_as_they_are_compared(grid: Grid, stride: Grid, coverage: Any, radius: int | None) -> None:
    for seed in range(3):
        part = partition_of(grid, stride, coverage, seed)
        step, start, count = map(list, (part.stride, part.start, part.chunks))
        chunk = [oracle.chunk_of(token, grid, tuple(step), start, count) for token in range(part.tokens)]
        apart = [
            max(abs(a - b) for a, b in zip(chunk[s], chunk[d], strict=True))
            for s, d in itertools.product(part.src.tolist(), part.dst.tolist())
        ]
        near = sum(radius is None or distance <= radius for distance in apart)
        assert compared_pairs(grid, stride, coverage, radius) == near


class Work(TorchDispatchMode):
    """Counts the pairs compared, and finds the largest result of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = self.largest = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.numel())
            if function in (torch.ops.aten.bmm.default, torch.ops.aten.baddbmm.out):
                self.pairs += result.numel()
        return result


def test_cost_and_memory_grow_with_the_tokens_and_not_with_their_square() -> None:
    work: dict[tuple[str, int], Work] = {}
    for times, name in itertools.product((1, 2, 4), ("local", "everywhere")):
        part = partition_of((8 * times, 12, 12), (2, 2, 2))
        x = features(part.tokens, heads=1)
        with Work() as work[name, times]:
            if name == "local":
                match_local(x, part, 1, budget_bytes=1 << 30)  # everything at once: the largest there can be
            else:
                match_chunked(x, part, budget_bytes=1 << 30)
        if name == "local":
            assert work[name, times].pairs == part.src.numel() * 27
    for times in (2, 4):
        assert work["local", times].pairs == times * work["local", 1].pairs
        assert work["local", times].largest == times * work["local", 1].largest
        assert work["everywhere", times].pairs == times**2 * work["everywhere", 1].pairs


def test_a_schedule_asks_for_it() -> None:
    model, inputs = build(wan)
    outputs = {}
    for radius in (None, 0, 1, 9):
        schedule = Schedule(rates={"Q": np.full((2, 1), 0.5), "V": np.full((2, 1), 0.3)}, match_radius=radius)
        with asymrnr.apply(model, schedule):
            outputs[radius] = run(model, inputs)
    assert not torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[1], outputs[None])
    torch.testing.assert_close(outputs[9], outputs[None])


def test_every_source_keeps_to_its_own_chunk_at_radius_zero() -> None:
    part = partition_of((4, 6, 6), (2, 2, 2))
    match = Match.of(features(part.tokens), part, radius=0)
    plan = match.plan(1 - math.prod(part.chunks) / part.tokens)  # everything dropped but the destinations
    standing_in = plan.take.gather(-1, plan.back.long())
    for place in (lambda t: t // 36 // 2, lambda t: t // 6 % 6 // 2, lambda t: t % 6 // 2):
        own = place(torch.arange(part.tokens)).expand(1, 2, -1)
        assert torch.equal(place(standing_in.long()), own)


@pytest.mark.parametrize(("radius", "metric"), [(-1, "euclidean"), (0.5, "euclidean"), (1, "random")])
def test_bad_settings_are_refused(radius: Any, metric: Any) -> None:
    with pytest.raises(ScheduleError, match="match_radius"):
        Schedule(rates={"Q": np.zeros((1, 1))}, match_radius=radius, metric=metric)
    with pytest.raises(ScheduleError, match="144 tokens"):
        match_local(features(143), partition_of((4, 6, 6), (2, 2, 2)), 1)
