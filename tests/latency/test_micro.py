"""The micro-benchmarks attend as the model does: same backend, same mask."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers.models import attention_dispatch

import asymrnr
from asymrnr.observation import AttentionCall
from asymrnr.schedule import Schedule
from tests.pipelines.tiny_pipelines import build, tiny_entry
from tests.runtime import tiny
from tuner.latency import micro
from tuner.latency.masking import Masking
from tuner.latency.micro import Sites, latency_model, look_at_sites, measure_sites
from tuner.latency.surface import SHARES, LatencySurface
from tuner.models.backend import use_attention_backend
from tuner.run.runner import Runner

Calls = list[tuple[dict[str, Any], torch.Tensor]]
ARGUMENTS = ("query", "key", "value", "attn_mask")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro, "SURFACE_SECONDS", 0.0)


def recorded(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> Calls:
    """Every call of an attention function by its arguments and result."""
    calls: Calls = []
    original: Callable[..., torch.Tensor] = getattr(module, name)

    def function(*args: Any, **keywords: Any) -> torch.Tensor:
        result = original(*args, **keywords)
        calls.append(({**dict(zip(ARGUMENTS, args, strict=False)), **keywords}, result))
        return result

    monkeypatch.setattr(module, name, function)
    return calls


def dense(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Softmax attention of (batch, heads, tokens, head dim); visible broadcasts to the scores."""
    scores = q.double() @ k.double().mT / q.shape[-1] ** 0.5
    return torch.softmax(scores.masked_fill(~visible, -torch.inf), -1) @ v.double()


def sites_of(name: str, backend: str | None = None) -> tuple[Sites, Runner]:
    pipe = build(name)
    if backend is not None:
        use_attention_backend(pipe, backend)
    runner = Runner(pipe, tiny_entry(name))
    return look_at_sites(runner, "a cat"), runner


def test_hidden_text_stays_hidden_at_every_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of two items hides five of its nine text tokens."""
    model, inputs = tiny.build(tiny.hunyuan)
    seen: list[AttentionCall] = []
    with asymrnr.observe(model, seen.append):
        tiny.run(model, inputs)
    (shape,) = dict.fromkeys(map(micro.Shape.of, seen))
    tokens, text, hidden = 144, 9, (5, 0)
    assert (shape.backend, shape.text_tokens) == ("", text)
    assert shape.mask == Masking((2, 1, 1, tokens + text), "bool", hidden, uniform=True)
    sites = Sites((shape,), (0,) * 4, 1)
    assert Sites.from_dict(json.loads(json.dumps(asdict(sites)))) == sites

    calls = recorded(monkeypatch, attention_dispatch, "dispatch_attention_fn")
    measure_sites(sites, ("1x2x2",), torch.device("cpu"))
    lengths = set()
    for arguments, output in calls:
        q, k, v = (arguments[name].transpose(1, 2) for name in ARGUMENTS[:3])
        assert arguments["attn_mask"].shape == (2, 1, 1, k.shape[2])
        visible = torch.arange(k.shape[2]) < k.shape[2] - torch.tensor(hidden)[:, None, None, None]
        torch.testing.assert_close(output.transpose(1, 2).double(), dense(q, k, v, visible), rtol=1e-4, atol=1e-5)
        lengths.add((q.shape[2], k.shape[2]))
    kept = [tokens + text - round(tokens * (1 - share)) for share in SHARES]
    assert lengths == {(q, k) for q in kept for k in kept}


def test_the_backend_in_use_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    sites, runner = sites_of("hunyuanvideo", "_native_math")
    assert {shape.backend for shape in sites.shapes} == {"_native_math"}
    assert all(shape.mask is not None and shape.mask.shape[3] == 48 + shape.text_tokens for shape in sites.shapes)
    calls = recorded(monkeypatch, attention_dispatch, "dispatch_attention_fn")
    measure_sites(sites, ("1x2x2",), runner.device)
    assert len(calls) >= len(SHARES) ** 2
    assert {arguments["backend"] for arguments, _ in calls} == {attention_dispatch.AttentionBackendName._NATIVE_MATH}


@pytest.mark.parametrize(("name", "backend"), [("mochi", None), ("cogvideox-2b", None), ("wan-1.3b", "")])
def test_without_a_mask_there_is_none(name: str, backend: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    sites, runner = sites_of(name)
    assert {(shape.mask, shape.backend) for shape in sites.shapes} == {(None, backend)}
    dispatched = recorded(monkeypatch, attention_dispatch, "dispatch_attention_fn")
    direct = recorded(monkeypatch, F, "scaled_dot_product_attention")
    measure_sites(sites, ("1x2x2",), runner.device)
    assert len(direct) >= len(SHARES) ** 2
    assert bool(dispatched) == (backend is not None)
    for arguments, output in direct:
        q, k, v, mask = (arguments[name] for name in ARGUMENTS)
        assert mask is None
        torch.testing.assert_close(output.double(), dense(q, k, v, torch.tensor(True)), rtol=1e-4, atol=1e-5)


def test_masks_over_video_tokens_grow_heads_as_in_the_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is dropped differs between heads, so the mask of what is left does."""
    model, inputs = tiny.build(tiny.allegro)
    seen: list[AttentionCall] = []
    with asymrnr.observe(model, seen.append):
        tiny.run(model, inputs)
    shape = micro.Shape.of(seen[0])
    assert shape.mask is not None
    assert (shape.mask.uniform, shape.mask.shape[3]) == (False, 144)
    assert sum(shape.mask.hidden) == 0  # there is no text
    rates = {feature: np.full((2, 1), 0.5) for feature in ("Q", "V")}
    with pytest.MonkeyPatch.context() as patch, asymrnr.apply(model, asymrnr.Schedule(rates)):
        runtime = recorded(patch, F, "scaled_dot_product_attention")
        tiny.run(model, inputs)
    ours = recorded(monkeypatch, F, "scaled_dot_product_attention")
    measure_sites(Sites((shape,), (0, 0), 1), ("1x2x2",), torch.device("cpu"))
    assert halves(ours) == halves(runtime) == {(2, 2, 1, 72)}


def halves(calls: Calls) -> set[tuple[int, ...]]:
    """Shapes of the masks with 72 of 144 queries and keys."""
    alike = [call for call, _ in calls if (call["query"].shape[2], call["key"].shape[2]) == (72, 72)]
    return {tuple(call["attn_mask"].shape) for call in alike}


def test_a_mask_that_adds_to_scores_hides_as_much() -> None:
    mask = Masking((2, 1, 1, 10), "float32", (3, 0), uniform=True).build(torch.device("cpu"))
    assert torch.equal(torch.softmax(mask, -1)[:, 0, 0] > 0, torch.arange(10) < torch.tensor([[7], [10]]))
    seen = micro._masking(mask, slice(0, 6), uniform=True)
    assert seen == Masking((2, 1, 1, 10), "float32", (3, 0), uniform=True)


def test_attention_timed_slower_than_its_step_is_all_of_it() -> None:
    surface = LatencySurface.measure(
        2, 16, (2, 4, 4), 0, 1, ["1x2x2"], torch.float32, torch.device("cpu"), budget_seconds=0.0
    )
    sites = micro.SiteLatency((surface,), (0, 0), 1)
    model = latency_model(sites, sites.full_seconds / 3, steps=4)
    assert model.attention_share == pytest.approx(1)
    assert model.rest_seconds == pytest.approx(0)
    assert latency_model(sites, sites.full_seconds * 3, steps=4).coefficients.attention == 1


@pytest.mark.parametrize("pace", [0.5, 1.0, 4.0])
def test_a_pace_that_changes_between_micro_benchmarks_and_steps_cancels_out(pace: float) -> None:
    surface = LatencySurface.measure(
        2, 16, (2, 4, 4), 0, 1, ["1x2x2"], torch.float32, torch.device("cpu"), budget_seconds=0.0
    )
    sites = micro.SiteLatency((surface,), (0, 0), 1, tuple([0.2 * surface.attention_seconds(0.0, 0.0).item()] * 2))
    model = latency_model(sites, pace * 4 * sites.full_seconds, 4, attention_share=0.4)
    assert model.attention_share == pytest.approx(0.4)
    schedule = Schedule({"Q": np.full((2, 4), 0.5)}, stride=(1, 2, 2))
    assert model.speedup(schedule) == pytest.approx(latency_model(sites, 1.0, 4, attention_share=0.4).speedup(schedule))
    assert model.log_speedup_sd(schedule) == pytest.approx(
        latency_model(sites, 1.0, 4, attention_share=0.4).log_speedup_sd(schedule)
    )
