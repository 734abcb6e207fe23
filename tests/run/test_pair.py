"""Pairs of generations on tiny pipelines, in lock-step and one after the other."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from asymrnr.adapters import find_adapter
from asymrnr.schedule import Schedule
from tests.pipelines.helpers import left_as_found, schedule
from tests.pipelines.tiny_pipelines import build, tiny_entry
from tuner.models import REGISTRY, denoisers, load_pipeline
from tuner.run.instrument import Instrument
from tuner.run.ledger import Ledger
from tuner.run.lockstep import Position, Turn, in_lockstep
from tuner.run.pair import from_record, to_record
from tuner.run.runner import Generation, Runner
from tuner.run.store import MeasurementStore
from tuner.run.twin import twin_pipeline
from tuner.work.bench import Bench
from tuner.work.here import Here
from tuner.work.worker import Worker

EMBEDDED = "tiny-cogvideox"
NAMES = (EMBEDDED, "cogvideox-5b", "mochi", "wan-1.3b", "hunyuanvideo", "ltx-video", "animatediff")
STEPS = 3
PROMPTS = {EMBEDDED: REGISTRY[EMBEDDED].tuning_prompts(1)[0]}


def make_runner(name: str) -> Runner:
    if name != EMBEDDED:
        return Runner(build(name), tiny_entry(name, STEPS))
    entry = REGISTRY[name]
    return Runner(load_pipeline(name), entry.with_workload(steps=STEPS))


@dataclass(frozen=True)
class Doubled:
    """A pipeline, its twin, and what each gives when it runs alone."""

    name: str
    own: Runner
    twin: Runner
    plan: Schedule
    plain: Generation
    tuned: Generation

    def in_lockstep(
        self, within_steps: bool, trace: list[tuple[str, Position]] | None = None
    ) -> tuple[Generation, Generation]:
        def side(runner: Runner, who: str, plan: Schedule | None) -> Callable[[Turn], Generation]:
            def run(turn: Turn) -> Generation:
                def noted(position: Position) -> None:
                    if trace is not None:
                        trace.append((who, position))
                    turn(position)

                prompt = PROMPTS.get(self.name, "a cat")
                return runner.generate(prompt, 3, plan, turn=noted, within_steps=within_steps)

            return run

        return in_lockstep(side(self.own, "plain", None), side(self.twin, "tuned", self.plan))


def double(name: str, change: Callable[[Runner, Runner], None] | None = None) -> Doubled:
    own = make_runner(name)
    own.time_steps(1, "a cat")  # what a run leaves in a pipeline must not hinder a twin
    twin = Runner(twin_pipeline(own.pipe), own.entry)
    if change is not None:
        change(own, twin)
    plan, prompt = schedule(own.pipe, 0.5, 0.4, STEPS), PROMPTS.get(name, "a cat")
    return Doubled(name, own, twin, plan, own.generate(prompt, 3), twin.generate(prompt, 3, plan))


_doubled = functools.cache(double)


def assert_same(found: Generation, alone: Generation) -> None:
    assert torch.equal(found.video, alone.video)
    assert torch.equal(found.latents, alone.latents)
    if alone.summary is None:
        assert found.summary is None
        return
    assert found.summary is not None
    assert found.summary.matches == alone.summary.matches
    for feature, table in alone.summary.reduced.items():
        assert np.array_equal(found.summary.reduced[feature], table)


def assert_timed(found: Generation) -> None:
    assert found.step_seconds.shape == (STEPS,)
    assert np.all(found.step_seconds > 0)
    assert found.step_seconds.sum() < found.seconds


@pytest.mark.parametrize("within_steps", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_lockstep_changes_no_bit_of_either_side(name: str, within_steps: bool) -> None:
    doubled = _doubled(name)
    trace: list[tuple[str, Position]] = []
    with left_as_found(doubled.own.pipe), left_as_found(doubled.twin.pipe):
        plain, tuned = doubled.in_lockstep(within_steps, trace)
    assert_same(plain, doubled.plain)
    assert_same(tuned, doubled.tuned)
    assert not torch.equal(tuned.latents, plain.latents)
    for found in (plain, tuned):
        assert_timed(found)
    sides = {who: [at for by, at in trace if by == who] for who in ("plain", "tuned")}
    assert sides["plain"] == sides["tuned"]
    assert sides["plain"] == sorted(set(sides["plain"]))
    ends = [(step, 0, 0) for step in range(1, STEPS + 1)]
    assert [at for at in sides["plain"] if at[1] == 0] == ends
    assert (sides["plain"] == ends) == (not within_steps)
    for first, second in zip(trace[::2], trace[1::2], strict=True):  # each position is passed by one, then by the other
        assert first[1] == second[1]
        assert first[0] != second[0]


@pytest.mark.parametrize("name", ["cogvideox-5b", "mochi"])
def test_a_twin_gives_what_the_original_gives(name: str) -> None:
    doubled = _doubled(name)
    prompt = PROMPTS.get(name, "a cat")
    assert_same(doubled.twin.generate(prompt, 3), doubled.plain)
    assert_same(doubled.own.generate(prompt, 3, doubled.plan), doubled.tuned)


def pyramid(runner: Runner) -> Any:
    pipe: Any = runner.pipe
    return diffusers.PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(-1, 1001),
        spatial_attention_block_identifiers=(find_adapter(denoisers(pipe)[0]).sites,),
        current_timestep_callback=lambda: pipe.current_timestep,
    )


def first_block(runner: Runner) -> Any:
    return diffusers.FirstBlockCacheConfig(threshold=1e9)


CACHED = [
    *(
        (name, cache, side, True)
        for name in ("cogvideox-5b", "mochi", "wan-1.3b")
        for cache in (pyramid, first_block)
        for side in ("plain", "tuned")
    ),
    ("mochi", first_block, "both", True),
    ("mochi", first_block, "plain", False),
    ("mochi", pyramid, "tuned", False),
]


@pytest.mark.parametrize(("name", "cache", "cached", "within_steps"), CACHED)
def test_caches_on_either_side_stay_there_and_the_pair_ends(
    name: str, cache: Callable[[Runner], Any], cached: str, within_steps: bool
) -> None:
    doubled = _cached(name, cache, cached)
    trace: list[tuple[str, Position]] = []
    plain, tuned = doubled.in_lockstep(within_steps, trace)
    assert_same(plain, doubled.plain)
    assert_same(tuned, doubled.tuned)
    uncached = _doubled(name)
    assert torch.equal(plain.latents, uncached.plain.latents) == (cached == "tuned")
    assert torch.equal(tuned.latents, uncached.tuned.latents) == (cached == "plain")
    sides = {who: {at for by, at in trace if by == who} for who in ("plain", "tuned")}
    other = "tuned" if cached == "plain" else "plain"
    if cache is first_block and cached != "both" and within_steps:  # whole blocks are skipped
        assert sides[cached] < sides[other]
    else:
        assert sides["plain"] == sides["tuned"]


@functools.cache
def _cached(name: str, cache: Callable[[Runner], Any], cached: str) -> Doubled:
    def enable(own: Runner, twin: Runner) -> None:
        for side, runner in (("plain", own), ("tuned", twin)):
            if cached in (side, "both"):
                denoiser: Any = runner.denoiser
                denoiser.enable_cache(cache(runner))

    return double(name, enable)


@pytest.mark.parametrize("within_steps", [False, True])
def test_each_side_is_timed_without_the_other(within_steps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    doubled = _doubled("mochi")
    now = [0.0]
    monkeypatch.setattr("tuner.run.clock.time", SimpleNamespace(perf_counter=lambda: now[0]))

    def lasts(seconds: float) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            now[0] += seconds

        return hook

    handles = []
    for runner, seconds in ((doubled.own, 1), (doubled.twin, 16)):
        for block in runner.denoiser.transformer_blocks:  # before, between and after the sites
            handles.append(block.register_forward_hook(lasts(seconds)))
    handles.append(doubled.own.pipe.text_encoder.register_forward_hook(lasts(256)))  # shared
    doubled.own.pipe.encode_prompt._known.clear()  # of other tests
    try:
        plain, tuned = doubled.in_lockstep(within_steps)
    finally:
        for handle in handles:
            handle.remove()
    assert plain.step_seconds.tolist() == [2] * STEPS
    assert tuned.step_seconds.tolist() == [32] * STEPS
    assert plain.seconds - 2 * STEPS == tuned.seconds - 32 * STEPS
    assert (plain.seconds - 2 * STEPS) % 256 == 0
    assert plain.seconds > 256


def test_timing_the_first_steps_ends_both_sides_early() -> None:
    doubled = _doubled("wan-1.3b")
    with left_as_found(doubled.own.pipe), left_as_found(doubled.twin.pipe):
        plain, tuned = in_lockstep(
            lambda turn: doubled.own.time_steps(2, "a cat", turn=turn, within_steps=True),
            lambda turn: doubled.twin.time_steps(3, "a cat", schedule=doubled.plan, turn=turn),
        )
    assert (plain.shape, tuned.shape) == ((2,), (3,))
    assert np.all(np.concatenate([plain, tuned]) > 0)


def test_a_pair_comes_back_from_the_store_as_it_went_in(tmp_path: Path) -> None:
    doubled = _doubled("mochi")
    values, arrays = to_record(doubled.plain, doubled.tuned, doubled.plan, "alternating")
    with MeasurementStore(tmp_path) as store:
        key = {"prompt": "a cat", "seed": 3}
        store.put(key, values, arrays)
    with MeasurementStore(tmp_path) as store:
        record = store.get(key)
        assert record is not None
        pair = from_record(record)
    assert (pair.prompt, pair.seed, pair.mode, pair.key_hash) == ("a cat", 3, "alternating", record.key_hash)
    for side, generation in ((pair.plain, doubled.plain), (pair.tuned, doubled.tuned)):
        assert torch.equal(side.latents, generation.latents)
        assert (side.video - generation.video).abs().max() <= 0.5 / 255 + 1e-6
        assert np.array_equal(side.step_seconds, generation.step_seconds)
        assert side.seconds == generation.seconds
    assert np.array_equal(pair.attention, doubled.plan.attention_of_steps())
    assert pair.reduced_sites == sum(np.count_nonzero(table) for table in doubled.plan.rates.values())
    assert pair.denoise.steps == STEPS
    assert np.isfinite(pair.end_to_end)


def test_pairs_alternate_and_say_so_where_no_twin_can_be_made(tmp_path: Path) -> None:
    runner = make_runner("mochi")
    denoiser: Any = runner.denoiser
    plan = schedule(runner.pipe, 0.5, 0.4, STEPS)
    denoiser.enable_cache(first_block(runner))
    reduced: list[bool] = []
    generate = runner.generate

    def noted(*args: Any, **how: Any) -> Generation:
        reduced.append(how.get("schedule") is not None)
        return generate(*args, **how)

    runner.generate = noted  # type: ignore[method-assign]
    with MeasurementStore(tmp_path) as store:
        bench = Bench(runner)
        instrument = Instrument(store, Ledger(100), {"model": "mochi"}, Here(Worker(bench, store)))
        assert bench.why_no_twin is None
        pairs = [instrument.pair("certify", "a cat", *where) for where in ((2, plan), (3, plan))]
        pairs.append(instrument.pair("certify", "a cat", 2, plan, repeat=1))
        assert [store.lines()[n]["values"]["mode"] for n in range(3)] == ["alternating"] * 3
    assert reduced == [False, True, True, False, True, False]
    assert [pair.mode for pair in pairs] == ["alternating"] * 3
    assert bench.why_no_twin is not None
    assert "cache" in bench.why_no_twin
    plain, tuned = generate("a cat", 2), generate("a cat", 2, schedule=plan)
    for pair in (pairs[0], pairs[2]):  # whichever went first
        assert torch.equal(pair.plain.latents, plain.latents)
        assert torch.equal(pair.tuned.latents, tuned.latents)
