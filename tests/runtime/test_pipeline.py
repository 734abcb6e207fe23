"""apply and observe on a complete tiny CogVideoX pipeline with guidance (batch of two)."""

from __future__ import annotations

import inspect

import diffusers
import numpy as np
import pytest
import torch
from torch import nn

import asymrnr
from asymrnr import AttentionCall, InterceptionError, Schedule, ScheduleError
from tests.runtime.tiny import cogvideox_model, cogvideox_pipeline, generate


def schedule(q: float, v: float, steps: int = 4, blocks: int = 2, **settings: object) -> Schedule:
    rates = {"Q": np.full((blocks, steps), q), "V": np.full((blocks, steps), v)}
    return Schedule(rates=rates, **settings)  # type: ignore[arg-type]


@pytest.fixture
def pipeline() -> diffusers.CogVideoXPipeline:
    return cogvideox_pipeline()


def snapshot(model: nn.Module) -> tuple[object, ...]:
    hooks = [(len(m._forward_pre_hooks), len(m._forward_hooks)) for m in model.modules()]
    processors = [m.processor for m in model.modules() if hasattr(m, "processor")]
    return hooks, processors, [type(p) for p in processors], sorted(vars(model)), sorted(model.state_dict())


def test_rate_zero_is_bit_identical_and_remove_restores(pipeline: diffusers.CogVideoXPipeline) -> None:
    baseline, before = generate(pipeline), snapshot(pipeline.transformer)
    with asymrnr.apply(pipeline, schedule(0, 0)):
        assert torch.equal(generate(pipeline), baseline)
    handle = asymrnr.apply(pipeline, schedule(0.5, 0.3))
    assert not torch.equal(generate(pipeline), baseline)
    handle.verify()
    handle.remove()
    handle.remove()
    assert snapshot(pipeline.transformer) == before
    assert "set_timesteps" not in vars(pipeline.scheduler)
    assert torch.equal(generate(pipeline), baseline)


def test_summary_counts_the_cache_windows(pipeline: diffusers.CogVideoXPipeline) -> None:
    rates = np.zeros((2, 5))
    rates[1, 1:] = 0.5
    with asymrnr.apply(pipeline, Schedule(rates={"Q": rates}, cache_step=2)) as handle:
        for _ in range(2):  # the second generation starts afresh
            generate(pipeline, steps=5)
            summary = handle.summary()
            assert summary.matches == 3  # windows {0,1}, {2,3}, {4}
            assert (summary.calls, summary.steps_seen) == (10, 5)
            assert np.array_equal(summary.reduced["Q"], rates > 0)
            assert np.array_equal(summary.planned["Q"], rates > 0)
            assert "Q reduced at 4 of 4 planned sites" in str(summary)


def test_rates_may_change_within_a_window(pipeline: diffusers.CogVideoXPipeline) -> None:
    rates = np.array([[0.2, 0.6, 0.4, 0.0]] * 2)
    with asymrnr.apply(pipeline, Schedule(rates={"V": rates}, cache_step=4)) as handle:
        generate(pipeline)
        assert handle.summary().matches == 2
        assert np.array_equal(handle.summary().reduced["V"], rates > 0)


def test_generations_with_other_steps_and_shapes_equal_fresh_ones(pipeline: diffusers.CogVideoXPipeline) -> None:
    settings = {"steps": 3, "cache_step": 2}
    workloads = [{"steps": 3}, {"steps": 5, "size": 64, "frames": 9}, {"steps": 3}]
    fresh = []
    for workload in workloads:
        with asymrnr.apply(pipeline, schedule(0.6, 0.4, **settings)):  # type: ignore[arg-type]
            fresh.append(generate(pipeline, **workload))
    with asymrnr.apply(pipeline, schedule(0.6, 0.4, **settings)) as handle:  # type: ignore[arg-type]
        for workload, want in zip(workloads, fresh, strict=True):
            assert torch.equal(generate(pipeline, **workload), want)
            handle.verify()
    assert torch.equal(fresh[0], fresh[2])


def test_guidance_branches_are_matched_apart(pipeline: diffusers.CogVideoXPipeline) -> None:
    """Each half of the batch is reduced as if it were alone."""
    torch.manual_seed(0)
    inputs = {
        "hidden_states": torch.randn(2, 4, 4, 12, 12),
        "encoder_hidden_states": torch.randn(2, 8, 16),
        "image_rotary_emb": pipeline._prepare_rotary_positional_embeddings(96, 96, 4, torch.device("cpu")),
    }
    plain = pipeline.transformer
    with torch.no_grad(), asymrnr.apply(plain, schedule(0.5, 0.5)):
        both = plain(**inputs, timestep=torch.tensor([500, 500])).sample
    for half in (slice(0, 1), slice(1, 2)):
        one = {k: v[half] if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
        with torch.no_grad(), asymrnr.apply(plain, schedule(0.5, 0.5)):
            alone = plain(**one, timestep=torch.tensor([500])).sample
        torch.testing.assert_close(both[half], alone, rtol=1e-4, atol=1e-5)


def test_columns_follow_the_timesteps(pipeline: diffusers.CogVideoXPipeline) -> None:
    pipeline.scheduler.set_timesteps(4)
    times = tuple(float(t) for t in pipeline.scheduler.timesteps)
    rates = np.array([[0.5, 0.5, 0.0, 0.0]] * 2)
    with asymrnr.apply(pipeline, Schedule(rates={"Q": rates}, timesteps=times)) as handle:
        generate(pipeline, steps=8)
        planned = handle.summary().planned["Q"]
        assert planned.tolist() == [[3, 2, 0, 0]] * 2  # 876, 751 and 626 are nearest to 751; 501 and 376 to 501


def test_observer_sees_everything_and_changes_nothing(pipeline: diffusers.CogVideoXPipeline) -> None:
    baseline = generate(pipeline)
    calls: list[AttentionCall] = []
    with asymrnr.observe(pipeline, calls.append):
        assert torch.equal(generate(pipeline), baseline)
    assert [(c.step, c.block) for c in calls] == [(s, b) for s in range(4) for b in range(2)]
    times = [float(t) for t in pipeline.scheduler.timesteps]
    assert [c.timestep for c in calls[::2]] == times
    call = calls[-1]
    assert (call.grid, call.video, call.call, call.branch) == ((4, 6, 6), slice(8, 152), 0, "cond_uncond")
    assert call.hidden.shape == (2, 144, 32)
    want = torch.nn.functional.scaled_dot_product_attention(call.query, call.key, call.value)
    assert torch.equal(call.output, want)


def test_two_pipelines_are_independent(pipeline: diffusers.CogVideoXPipeline) -> None:
    other = cogvideox_pipeline(seed=1)
    base, base_other = generate(pipeline), generate(other)
    alone = {}
    for name, p, s in (("one", pipeline, schedule(0.5, 0)), ("two", other, schedule(0, 0.6))):
        with asymrnr.apply(p, s):
            alone[name] = generate(p)
    first = asymrnr.apply(pipeline, schedule(0.5, 0))
    assert torch.equal(generate(other), base_other)
    second = asymrnr.apply(other, schedule(0, 0.6))
    assert torch.equal(generate(pipeline), alone["one"])
    assert torch.equal(generate(other), alone["two"])
    first.remove()
    assert torch.equal(generate(pipeline), base)
    assert torch.equal(generate(other), alone["two"])
    second.remove()


def test_inert_schedules_are_errors(pipeline: diffusers.CogVideoXPipeline) -> None:
    with pytest.raises(ScheduleError, match="was not called"), asymrnr.apply(pipeline, schedule(0.5, 0)):
        pass
    late = np.zeros((2, 9))
    late[:, 8] = 0.5
    with pytest.raises(ScheduleError, match="reduces nothing"), asymrnr.apply(pipeline, Schedule(rates={"Q": late})):
        generate(pipeline)
    handle = asymrnr.apply(pipeline, schedule(0.5, 0))
    generate(pipeline)
    handle._engine.locate = lambda length: None  # type: ignore[method-assign]  # sites go blind after the first run
    with pytest.raises(InterceptionError, match="2 of 2 blocks"):
        generate(pipeline)
    with pytest.raises(ScheduleError, match="Q was reduced at 0 of the 2 sites"):
        handle.verify()
    handle.remove()


def test_an_exception_inside_passes_through_and_still_removes(pipeline: diffusers.CogVideoXPipeline) -> None:
    before = snapshot(pipeline.transformer)
    with pytest.raises(KeyError), asymrnr.apply(pipeline, schedule(0.5, 0)):
        raise KeyError
    assert snapshot(pipeline.transformer) == before


def test_an_interrupted_generation_leaves_no_trace(pipeline: diffusers.CogVideoXPipeline) -> None:
    with asymrnr.apply(pipeline, schedule(0.5, 0.5, cache_step=4)) as handle:
        want = generate(pipeline)

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        block = pipeline.transformer.transformer_blocks[1]
        with block.register_forward_pre_hook(stop), pytest.raises(KeyboardInterrupt):
            generate(pipeline)
        assert torch.equal(generate(pipeline), want)
        assert handle.summary().steps_seen == 4


def test_replaced_processors_are_noticed(pipeline: diffusers.CogVideoXPipeline) -> None:
    with asymrnr.apply(pipeline, schedule(0.5, 0)):
        generate(pipeline)
        pipeline.transformer.fuse_qkv_projections()
        with pytest.raises(InterceptionError, match=r"2 attention processors .* were replaced"):
            generate(pipeline)
    fused = [m.processor for m in pipeline.transformer.modules() if hasattr(m, "processor")]
    assert all(type(p).__name__.startswith("Fused") for p in fused)  # removal leaves the new ones in place
    with asymrnr.apply(pipeline, schedule(0.5, 0)):
        generate(pipeline)


def test_keyword_arguments_reach_the_processor(pipeline: diffusers.CogVideoXPipeline) -> None:
    """diffusers passes only those that the processor's signature names; losing RoPE would be silent."""
    baseline = generate(pipeline)
    original = pipeline.transformer.transformer_blocks[0].attn1.processor
    with asymrnr.apply(pipeline, schedule(0, 0)):
        processor = pipeline.transformer.transformer_blocks[0].attn1.processor
        assert inspect.signature(processor) == inspect.signature(original)
        assert type(processor).__name__ == type(original).__name__
        assert torch.equal(generate(pipeline), baseline)
    pipeline._prepare_rotary_positional_embeddings = lambda *_: None
    assert not torch.equal(generate(pipeline), baseline)


def test_misuse_is_refused_in_one_sentence(pipeline: diffusers.CogVideoXPipeline) -> None:
    before = snapshot(pipeline.transformer)
    with pytest.raises(ScheduleError, match="for 3 blocks, but this CogVideoXTransformer3DModel has 2"):
        asymrnr.apply(pipeline, schedule(0.5, 0, blocks=3))
    with pytest.raises(ScheduleError, match="takes a Schedule"):
        asymrnr.apply(pipeline, 1.2)  # type: ignore[arg-type]
    with pytest.raises(ScheduleError, match="for 8 blocks, but this CogVideoXTransformer3DModel has 2"):
        asymrnr.apply(pipeline, "tiny-cogvideox")
    with pytest.raises(InterceptionError, match="Linear is not a known denoiser"):
        asymrnr.apply(nn.Linear(2, 2), schedule(0.5, 0))
    with pytest.raises(InterceptionError, match="no diffusers pipeline"):
        asymrnr.apply(object(), schedule(0.5, 0))
    assert snapshot(pipeline.transformer) == before
    with asymrnr.apply(pipeline, schedule(0.5, 0)):
        with pytest.raises(InterceptionError, match="applied to this CogVideoXTransformer3DModel already"):
            asymrnr.observe(pipeline, print)
        generate(pipeline)
    with asymrnr.observe(pipeline, lambda call: None):
        with pytest.raises(InterceptionError, match="applied to this CogVideoXTransformer3DModel already"):
            asymrnr.apply(pipeline, schedule(0.5, 0))
        generate(pipeline)


def test_processors_without_an_attention_call_are_refused() -> None:
    class Opaque:
        def __call__(self, attn: nn.Module, hidden_states: torch.Tensor) -> torch.Tensor:
            return hidden_states

    model = cogvideox_model()
    model.transformer_blocks[1].attn1.processor = Opaque()
    before = snapshot(model)
    with pytest.raises(InterceptionError, match="Opaque makes no attention call"):
        asymrnr.apply(model, schedule(0.5, 0))
    assert snapshot(model) == before


def test_rate_out_of_reach_fails_before_the_first_step(pipeline: diffusers.CogVideoXPipeline) -> None:
    late = np.zeros((2, 4))
    late[1, 3] = 0.9
    handle = asymrnr.apply(pipeline, Schedule(rates={"V": late}))
    with pytest.raises(ScheduleError, match=r"largest rate is 0\.875"):
        generate(pipeline)
    assert handle.summary().calls == 0
    handle.remove()


def test_bfloat16(pipeline: diffusers.CogVideoXPipeline) -> None:
    pipeline.to(torch.bfloat16)
    baseline = generate(pipeline)
    with asymrnr.apply(pipeline, schedule(0, 0)):
        assert torch.equal(generate(pipeline), baseline)
    with asymrnr.apply(pipeline, schedule(0.5, 0.5, reduction="mean")):
        assert generate(pipeline).dtype == baseline.dtype
