"""What memory and broadcasting would get wrong, against doing it token by token, and in a model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from diffusers import CogVideoXTransformer3DModel

import asymrnr
from asymrnr import Action
from asymrnr.partition import Grid, make_partition
from asymrnr.reduction import Match
from tuner.errors import UsageError
from tuner.profile.changes import Change, OutputChanges
from tuner.profile.profile import Profile
from tuner.profile.profiler import Profiler
from tuner.profile.settings import ProfilerSettings

Denoise = Callable[[], None]
RATES = np.array([0.0, 0.2, 0.45, 0.7, 0.95])
BATCH, HEADS, HEAD_DIM = 2, 2, 8
ALL = 10_000  # more sources than there are


def outputs(grid: Grid, steps: int, seed: int = 0) -> list[torch.Tensor]:
    """Attention outputs of a generation that goes one way and trembles."""
    generator = torch.Generator().manual_seed(seed)
    shape = (BATCH, HEADS, grid[0] * grid[1] * grid[2], HEAD_DIM)
    start, drift = (torch.randn(shape, generator=generator) for _ in range(2))
    return [start + 0.3 * t * drift + 0.1 * torch.randn(shape, generator=generator) for t in range(steps)]


def matches(grid: Grid, stride: Grid, steps: int) -> list[Match]:
    """Of the queries of every step, which are made up."""
    features = outputs(grid, steps, seed=1)
    return [Match.of(q, make_partition(grid, stride, torch.Generator().manual_seed(t))) for t, q in enumerate(features)]


def wrong_with_memory(then: torch.Tensor, now: torch.Tensor, match: Match, rate: float) -> float:
    """Token by token: a token dropped takes its destination's output, and the difference of the two at the refresh."""
    src, dst, tokens = match.partition.src.tolist(), match.partition.dst.tolist(), match.partition.tokens
    dropped = tokens - int(tokens * (1 - rate))
    total = 0.0
    for item in range(BATCH):
        for head in range(HEADS):
            for source in match.order[item, head].flip(0)[:dropped].tolist():
                i, j = src[source], dst[match.slot[item, head, source]]
                restored = now[item, head, j] + (then[item, head, i] - then[item, head, j])
                total += float((restored - now[item, head, i]).double().square().sum())
    return total


def followed(
    grid: Grid, stride: Grid, steps: int, gaps: int, samples: int
) -> list[tuple[Change, torch.Tensor, torch.Tensor, Match]]:
    """Every change found in a generation, with the outputs then and now, and the matching then."""
    of_steps, made = outputs(grid, steps), matches(grid, stride, steps)
    changes, found = OutputChanges(RATES, gaps, samples), []
    for step in range(steps):
        for change in changes.add("place", step, of_steps[step], made[step]):
            found.append((change, of_steps[step - change.gap], of_steps[step], made[step - change.gap]))
    return found


@pytest.mark.parametrize(
    ("grid", "stride"), [((2, 4, 4), (2, 2, 2)), ((3, 5, 5), (2, 2, 2)), ((2, 3, 7), (1, 2, 3))], ids=str
)
def test_with_all_sources_it_is_what_restoring_with_memory_gets_wrong(grid: Grid, stride: Grid) -> None:
    found = followed(grid, stride, steps=4, gaps=2, samples=ALL)
    assert [change.gap for change, *_ in found] == [1, 2, 1, 2, 1]
    for change, then, now, match in found:
        assert change.memory[0] == 0.0
        assert change.memory[-1] == np.inf  # destinations cannot be dropped
        for rate, error in zip(RATES[1:-1], change.memory[1:-1], strict=True):
            assert error == pytest.approx(wrong_with_memory(then, now, match, rate), rel=1e-4)


@pytest.mark.parametrize("grid", [(2, 4, 4), (3, 5, 5), (4, 8, 8)], ids=str)
def test_broadcasting_is_as_wrong_as_the_sources_have_changed(grid: Grid) -> None:
    for change, then, now, match in followed(grid, (2, 2, 2), steps=3, gaps=2, samples=ALL):
        squared = (now - then).double().square().sum((0, 1, 3))  # by token
        sources = float(squared[match.partition.src].mean()) * match.partition.tokens
        assert change.broadcast == pytest.approx(sources, rel=1e-4)
        assert change.broadcast == pytest.approx(float(squared.sum()), rel=0.05)  # destinations are drawn by lot


@pytest.mark.parametrize("samples", [48, 96])
def test_some_sources_tell_nearly_as_much_as_all(samples: int) -> None:
    few, every = (followed((4, 8, 8), (2, 2, 2), 4, 3, count) for count in (samples, ALL))
    for (some, *_), (whole, *_) in zip(few, every, strict=True):
        np.testing.assert_allclose(some.memory, whole.memory, rtol=0.2)
        assert some.broadcast == pytest.approx(whole.broadcast, rel=0.1)


def test_one_source_gives_a_number_at_every_rate() -> None:
    for change, *_ in followed((2, 4, 4), (2, 2, 2), steps=2, gaps=1, samples=1):
        assert (np.diff(change.memory[:-1]) > 0).all()
        assert change.broadcast > 0


def test_what_has_not_changed_is_not_wrong() -> None:
    [output], [match] = outputs((3, 5, 5), 1), matches((3, 5, 5), (2, 2, 2), 1)
    changes = OutputChanges(RATES, 1, ALL)
    assert changes.add("place", 0, output, match) == []
    [change] = changes.add("place", 1, output + 2.5, match)  # all alike, so memory is exact
    np.testing.assert_allclose(change.memory[:-1], 0.0, atol=1e-6)
    assert change.broadcast == pytest.approx(2.5**2 * output.numel(), rel=1e-4)


def test_nothing_older_than_the_gaps_is_kept() -> None:
    of_steps, made = outputs((2, 4, 4), 9), matches((2, 4, 4), (2, 2, 2), 9)
    changes, gaps = OutputChanges(RATES, 3, ALL), []
    for step in (0, 1, 2, 3, 4, 7, 8):  # some steps leave attention out
        gaps.append([change.gap for change in changes.add("place", step, of_steps[step], made[step])])
        assert len(changes._seen["place"]) <= 3
    assert gaps == [[], [1], [2, 1], [3, 2, 1], [3, 2, 1], [3], [1]]


def test_places_and_batches_are_not_compared_with_others() -> None:
    of_steps, made = outputs((2, 4, 4), 3), matches((2, 4, 4), (2, 2, 2), 3)
    changes = OutputChanges(RATES, 2, ALL)
    assert changes.add("one", 0, of_steps[0], made[0]) == []
    assert changes.add("other", 1, of_steps[1], made[1]) == []
    half = Match(made[2].partition, made[2].order[:1], made[2].slot[:1], made[2].mean_distance)
    assert changes.add("one", 1, of_steps[1][:1], half) == []
    assert [change.gap for change in changes.add("one", 2, of_steps[2][:1], half)] == [1]


GAPS, STEPS, BLOCKS, STRIDE = 3, 6, 2, (2, 2, 2)


def profiled(transformer: CogVideoXTransformer3DModel, denoise: Denoise, gaps: int = GAPS) -> Profile:
    settings = ProfilerSettings(
        strides=("2x2x2",),
        cache_steps=(2,),
        rates=(0.3, 0.75, 0.9),
        total_steps=STEPS,
        seed=3,
        kl_every=6,
        persistence_every=6,
        memory_gaps=gaps,
        memory_samples=ALL,
    )
    profiler = Profiler(settings)
    with asymrnr.observe(transformer, profiler):
        denoise()
    return profiler.finish(model="tiny", workload={"steps": STEPS}, prompt="p", generation_seed=1)


def outputs_of_block_0(transformer: CogVideoXTransformer3DModel, denoise: Denoise) -> list[torch.Tensor]:
    """Attention output of the video tokens, one tensor a step; its inputs are the same whatever the schedule."""
    found: list[torch.Tensor] = []
    site = transformer.transformer_blocks[0].attn1
    with site.register_forward_hook(lambda _, __, output: found.append(output[0].clone())):
        denoise()
    return found


def acting(step: int, gap: int, action: Action, rate: float) -> asymrnr.Schedule:
    """Block 0 refreshes and does something later; everything else is in full."""
    rates, actions = np.zeros((BLOCKS, STEPS)), np.zeros((BLOCKS, STEPS), dtype=int)
    actions[0, step - gap], actions[0, step], rates[0, step] = Action.REFRESH, action, rate
    return asymrnr.Schedule({"Q": rates}, actions=actions, stride=STRIDE, seed=3)


@pytest.mark.parametrize(("step", "gap"), [(1, 1), (4, 1), (2, 2), (5, 2), (3, 3), (5, 3)])
def test_predicted_errors_are_those_of_the_runtime(
    transformer: CogVideoXTransformer3DModel, denoise: Denoise, step: int, gap: int
) -> None:
    profile = profiled(transformer, denoise)
    plain = outputs_of_block_0(transformer, denoise)[step]

    def measured(action: Action, rate: float) -> float:
        with asymrnr.apply(transformer, acting(step, gap, action, rate)) as handle:
            found = outputs_of_block_0(transformer, denoise)[step]
            assert handle.summary().done[action][0, step] == 1
        return float((found - plain).square().sum() / plain.square().sum())

    errors = profile.memory_error["2x2x2"][0, step, gap - 1]
    assert profile.rates.tolist() == [0, 0.3, 0.75, 0.9]
    for index in (1, 2):
        assert errors[index] == pytest.approx(measured(Action.MEMORY, float(profile.rates[index])), rel=2e-3)
    # Sources stand for all tokens, of which they are seven in eight.
    broadcast = profile.broadcast_error["2x2x2"][0, step, gap - 1]
    assert broadcast == pytest.approx(measured(Action.BROADCAST, 0.0), rel=0.05)


def test_tables_have_every_gap_that_there_is(transformer: CogVideoXTransformer3DModel, denoise: Denoise) -> None:
    profile = profiled(transformer, denoise)
    memory, broadcast = profile.memory_error["2x2x2"], profile.broadcast_error["2x2x2"]
    assert memory.shape == (BLOCKS, STEPS, GAPS, 4)
    assert broadcast.shape == (BLOCKS, STEPS, GAPS)
    there = np.arange(STEPS)[:, None] >= np.arange(1, GAPS + 1)
    assert np.array_equal(~np.isnan(broadcast), np.broadcast_to(there, broadcast.shape))
    assert (memory[:, there, 0] == 0).all()
    assert (memory[:, there, -1] == np.inf).all()  # stride of 8 tokens
    assert (broadcast[:, there] > memory[:, there, 1]).all()
    assert (memory[:, 1:, 0, 1:3] < profile.q_error["2x2x2", 2][:, 1:, 1:3]).all()  # better than copying


def test_without_gaps_nothing_is_measured(transformer: CogVideoXTransformer3DModel, denoise: Denoise) -> None:
    profile = profiled(transformer, denoise, gaps=0)
    assert (profile.memory_error, profile.broadcast_error) == ({}, {})


@pytest.mark.parametrize("changes", [{"memory_gaps": -1}, {"memory_samples": 0}])
def test_impossible_settings_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="Errors with memory"):
        ProfilerSettings(strides=("2x2x2",), cache_steps=(2,), rates=(0.3,), total_steps=3, **changes)


def test_a_second_prompt_is_looked_at_without_memory() -> None:
    settings = ProfilerSettings(strides=("2x2x2",), cache_steps=(2,), rates=(0.3,), total_steps=9, memory_gaps=4)
    assert settings.for_similarity(3).memory_gaps == 0
