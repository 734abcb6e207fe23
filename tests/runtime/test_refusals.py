"""What would end in wrong numbers ends at once: a step that misses what was planned, a second thread."""

from __future__ import annotations

import threading
from typing import Any

import diffusers
import pytest
import torch

import asymrnr
from asymrnr import InterceptionError, ScheduleError
from tests.runtime.test_pipeline import schedule
from tests.runtime.tiny import cogvideox_pipeline, generate


@pytest.fixture
def pipeline() -> diffusers.CogVideoXPipeline:
    return cogvideox_pipeline()


def skip_a_block_from_the_third_step(pipeline: diffusers.CogVideoXPipeline) -> list[int]:
    """Its attention is not called then, without a cache that would account for it; returns what counts the passes."""
    block, passes = pipeline.transformer.transformer_blocks[1], []
    whole = block.forward

    def forward(hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        passes.append(1)
        if len(passes) > 2:
            return hidden_states, encoder_hidden_states
        return whole(hidden_states, encoder_hidden_states, *args, **kwargs)

    block.forward = forward
    return passes


def test_a_step_that_misses_ends_the_generation(pipeline: diffusers.CogVideoXPipeline) -> None:
    passes = skip_a_block_from_the_third_step(pipeline)
    missed = r"Q was reduced at 5 of the 6 sites the schedule says; the first one missed is block 1, schedule step 2\."
    with pytest.raises(ScheduleError, match=missed), asymrnr.apply(pipeline, schedule(0.5, 0.25, steps=6)):
        generate(pipeline, steps=6)
    assert len(passes) == 3


def test_an_observer_that_misses_a_call_ends_the_generation(pipeline: diffusers.CogVideoXPipeline) -> None:
    passes = skip_a_block_from_the_third_step(pipeline)
    with pytest.raises(InterceptionError, match="never seen in 1 block"), asymrnr.observe(pipeline, lambda _: None):
        generate(pipeline, steps=6)
    assert len(passes) == 3


def test_two_threads_are_refused_and_one_after_the_other_are_not(pipeline: diffusers.CogVideoXPipeline) -> None:
    asymrnr.apply(pipeline, schedule(0.5, 0.25))
    expected, found = generate(pipeline), []
    inside, over = threading.Event(), threading.Event()

    def wait(*_: object) -> None:
        inside.set()
        over.wait(timeout=30)

    def first() -> None:
        with pytest.raises(InterceptionError, match="Two threads generate with this model at once"):
            generate(pipeline)
        found.append("refused")

    hook = pipeline.transformer.transformer_blocks[0].register_forward_pre_hook(wait)
    one = threading.Thread(target=first)
    one.start()
    assert inside.wait(timeout=30)
    with pytest.raises(InterceptionError, match="let one wait for the other"):
        generate(pipeline)
    over.set()
    one.join()
    hook.remove()
    assert found == ["refused"]
    other = threading.Thread(target=lambda: found.append(generate(pipeline)))
    other.start()
    other.join()
    assert torch.equal(found[1], expected)


def test_a_thread_whose_generation_failed_is_in_nobodys_way(pipeline: diffusers.CogVideoXPipeline) -> None:
    asymrnr.apply(pipeline, schedule(0.5, 0.25))
    expected, found = generate(pipeline), []

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    def failing() -> None:
        with pytest.raises(RuntimeError, match="out of memory"):
            generate(pipeline)
        found.append("failed")

    hook = pipeline.transformer.transformer_blocks[1].register_forward_pre_hook(fail)
    one = threading.Thread(target=failing)
    one.start()
    one.join()
    hook.remove()
    assert found == ["failed"]
    assert torch.equal(generate(pipeline), expected)
