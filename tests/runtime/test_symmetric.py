"""Reduction of the hidden states (H), before the projections."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import asymrnr
from asymrnr import InterceptionError, Schedule, ScheduleError, window_seed
from tests.runtime import oracle
from tests.runtime.test_models import SITES
from tests.runtime.tiny import DENOISERS, allegro, animatediff, build, cogvideox, hunyuan, mochi, run, wan

RATE = 0.4
# The arguments of the attention module that follow the tokens, cut to the tokens kept.
CUTS: dict[Any, Callable[[dict[str, Any], list[int]], dict[str, Any]]] = {
    cogvideox: lambda a, kept: {"image_rotary_emb": tuple(x[kept] for x in a["image_rotary_emb"])},
    wan: lambda a, kept: {"rotary_emb": tuple(x[:, kept] for x in a["rotary_emb"])},
    allegro: lambda a, kept: {
        "image_rotary_emb": (a["image_rotary_emb"][0], tuple(x[:, kept] for x in a["image_rotary_emb"][1])),
        "attention_mask": a["attention_mask"][..., kept],
    },
}


def first_call(model: nn.Module, inputs: dict[str, Any]) -> tuple[nn.Module, dict[str, Any], Any]:
    """The first site's module with the arguments and output of its call."""
    name = next(n for n, m in model.named_modules() if n.endswith("attn1") and "motion_modules" not in n)
    module, seen = model.get_submodule(name), []
    parameters = list(inspect.signature(module.forward).parameters)
    with module.register_forward_hook(lambda _, args, kwargs, out: seen.append((args, kwargs, out)), with_kwargs=True):
        run(model, inputs)
    args, kwargs, output = seen[0]
    return module, {**dict(zip(parameters, args, strict=False)), **kwargs}, output


def first(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


@pytest.mark.parametrize("denoiser", CUTS, ids=lambda f: f.__name__)
def test_equals_the_module_on_the_tokens_kept(denoiser: Any) -> None:
    model, inputs = build(denoiser)
    with asymrnr.apply(model, Schedule(rates={"H": np.full((SITES[denoiser.__name__], 1), RATE)})):
        _, _, output = first_call(model, inputs)
    module, arguments, _ = first_call(model, inputs)
    hidden = arguments.pop("hidden_states")
    parts = oracle.partition((4, 6, 6), (2, 2, 2), window_seed(0, "H", 0, 0), "full")
    features = hidden.transpose(0, 1).flatten(1).double().numpy()  # one matching for the batch
    kept, replaced = oracle.reduce(features, *parts, RATE, "euclidean")
    with torch.no_grad():
        reduced = first(module(hidden[:, kept], **{**arguments, **CUTS[denoiser](arguments, kept)}))
    back = [kept.index(replaced.get(token, token)) for token in range(144)]
    torch.testing.assert_close(first(output), reduced[:, back], rtol=1e-4, atol=1e-5)


def test_without_rotary_embeddings_every_item_is_matched_alone() -> None:
    model, inputs = build(animatediff)
    with asymrnr.apply(model, Schedule(rates={"H": np.full((7, 1), RATE)})):
        _, _, output = first_call(model, inputs)
    module, arguments, _ = first_call(model, inputs)
    batch = arguments.pop("hidden_states")
    parts = oracle.partition((1, 16, 16), (2, 2, 2), window_seed(0, "H", 0, 0), "full")
    for item in range(8):
        hidden = batch[item]
        kept, replaced = oracle.reduce(hidden.double().numpy(), *parts, RATE, "euclidean")
        with torch.no_grad():
            reduced = first(module(hidden[None, kept], **arguments))
        back = [kept.index(replaced.get(token, token)) for token in range(256)]
        torch.testing.assert_close(first(output)[item], reduced[0, back], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reduction", ["discard", "mean"])
@pytest.mark.parametrize("denoiser", DENOISERS, ids=lambda f: f.__name__)
def test_h_applies_only_where_neither_q_nor_v_does(denoiser: Any, reduction: Any) -> None:
    model, inputs = build(denoiser)
    baseline, sites = run(model, inputs), SITES[denoiser.__name__]
    q, v = np.zeros((sites, 1)), np.zeros((sites, 1))
    q[0], v[1] = 0.5, 0.3
    rates = {"H": np.full((sites, 1), RATE), "Q": q, "V": v}
    with asymrnr.apply(model, Schedule(rates=rates, reduction=reduction)) as handle:
        assert not torch.equal(run(model, inputs), baseline)
        reduced = handle.summary().reduced
    assert reduced["H"].flatten().tolist() == [0, 0] + [1] * (sites - 2)
    assert reduced["Q"].sum() == reduced["V"].sum() == 1
    assert torch.equal(run(model, inputs), baseline)


@pytest.mark.parametrize("denoiser", [mochi, hunyuan], ids=lambda f: f.__name__)
def test_padding_text_stays_without_effect(denoiser: Any) -> None:
    model, inputs = build(denoiser)
    changed = {**inputs, "encoder_hidden_states": inputs["encoder_hidden_states"].clone()}
    changed["encoder_hidden_states"][inputs["encoder_attention_mask"] == 0] += 1.0
    outputs = []
    for version in (inputs, changed):
        with asymrnr.apply(model, Schedule(rates={"H": np.full((SITES[denoiser.__name__], 1), RATE)})):
            outputs.append(run(model, version))
    torch.testing.assert_close(*outputs)


def test_compiled_models_are_refused() -> None:
    model, _ = build(wan)
    compiled = torch.compile(model)
    with pytest.raises(ScheduleError, match="use an eager model"):
        asymrnr.apply(compiled, Schedule(rates={"H": np.full((2, 1), RATE)}))
    with pytest.raises(InterceptionError, match="observe the eager one"):
        asymrnr.observe(compiled, print)
