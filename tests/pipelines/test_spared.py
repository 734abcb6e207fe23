"""Nothing decodes a video that nobody looks at, and nothing encodes one prompt twice."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

import asymrnr
from tests.pipelines.tiny_pipelines import build, tiny_entry
from tuner.profile.settings import ProfilerSettings
from tuner.profile.watch import observe_generation
from tuner.run.instrument import Instrument
from tuner.run.ledger import Ledger
from tuner.run.runner import Runner
from tuner.run.store import MeasurementStore
from tuner.work.bench import Bench
from tuner.work.here import Here
from tuner.work.worker import Worker

STEPS = 4
MODELS = ["cogvideox-2b", "mochi", "wan-1.3b", "hunyuanvideo"]


def counted(runner: Runner) -> Counter[str]:
    """Grows with every prompt that is encoded, and every video that is decoded."""
    found: Counter[str] = Counter()
    decode = runner.pipe.vae.decode

    def decoded(*args: object, **kwargs: object) -> object:
        found["decoded"] += 1
        return decode(*args, **kwargs)

    runner.pipe.vae.decode = decoded
    runner.pipe.text_encoder.register_forward_hook(lambda *_: found.update(["encoded"]))
    return found


def runner_of(name: str) -> Runner:
    return Runner(build(name), tiny_entry(name, steps=STEPS))


@pytest.mark.parametrize("name", MODELS)
def test_profiling_decodes_nothing_and_encodes_each_prompt_once(name: str) -> None:
    runner = runner_of(name)
    settings = ProfilerSettings(("1x2x2",), (2,), (0.3,), total_steps=STEPS, kl_samples=8)
    once = runner_of(name)
    alone = counted(once)
    once.generate("a cat", 0)
    seen = counted(runner)
    _, generation = observe_generation(runner, settings, 0, None, lambda *_: None)  # type: ignore[arg-type]
    assert seen["decoded"] == 0
    assert seen["encoded"] == 2 * alone["encoded"] > 0  # two prompts
    assert len(generation.video) == 0
    assert torch.isfinite(generation.latents).all()


@pytest.mark.parametrize("name", MODELS)
def test_both_sides_of_a_pair_share_the_encoded_prompt(name: str, tmp_path) -> None:
    runner, once = runner_of(name), runner_of(name)
    alone, seen = counted(once), counted(runner)
    video = once.generate("a cat", 0).video
    blocks = 1 + max(call for call in blocks_of(runner))
    seen.clear()
    with MeasurementStore(tmp_path) as store:
        instrument = Instrument(store, Ledger(40.0), {}, Here(Worker(Bench(runner, None), store)))
        schedule = asymrnr.Schedule({"Q": np.full((blocks, STEPS), 0.5)}, stride=(1, 2, 2))
        pair = instrument.pair("verify", "a cat", 0, schedule)
        assert seen["encoded"] == alone["encoded"]
        assert seen["decoded"] == 2 * alone["decoded"]
        instrument.first_steps("preflight", "a cat", schedule, 2)
        assert seen["encoded"] == alone["encoded"]
    torch.testing.assert_close(pair.plain.video, video, atol=1 / 255, rtol=0)  # kept with 8 bits


def blocks_of(runner: Runner) -> list[int]:
    found: list[int] = []
    runner.generate("a dog", 1, observer=lambda call: found.append(call.block))
    return found


def test_whole_calls_are_timed_as_if_each_had_encoded_its_prompt() -> None:
    runner = runner_of("cogvideox-2b")
    encoding = runner.pipe.encode_prompt
    runner.generate("a cat", 0)
    (key,) = encoding._known
    encoded, _ = encoding._known[key]
    encoding._known[key] = (encoded, 100.0)
    assert 100.0 < runner.generate("a cat", 0).seconds < 150.0
    assert runner.time_steps(2, "a cat").sum() < 50.0  # steps do not count it


def test_prompts_that_differ_are_told_apart() -> None:
    runner = runner_of("cogvideox-2b")
    seen = counted(runner)
    first = runner.generate("a cat", 0).latents
    again, other = runner.generate("a cat", 0).latents, runner.generate("a dog", 0).latents
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert runner.pipe.encode_prompt is Runner(runner.pipe, runner.entry).pipe.encode_prompt
    assert seen["decoded"] == 3
