"""The engine agrees with the numpy reference token for token."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from asymrnr import Schedule, window_seed
from asymrnr.adapters import ModelAdapter
from asymrnr.engine import Engine
from asymrnr.partition import Grid, make_partition
from asymrnr.reduction import Match
from asymrnr.site import Site
from tests.runtime import oracle

GRID: Grid = (3, 5, 4)
TEXT = 3
SHAPE = (2, 2, 60 + TEXT, 8)  # batch, heads, tokens, head dim


def sdpa(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return F.scaled_dot_product_attention(q, k, v, mask)


def engine_for(video: Literal["first", "last"], rate_q: float, rate_v: float, **settings: Any) -> Engine:
    schedule = Schedule(rates={"Q": np.full((1, 1), rate_q), "V": np.full((1, 1), rate_v)}, **settings)
    engine = Engine(ModelAdapter("", lambda _, __: [GRID], video), 1, schedule)
    engine.begin(999.0, None, None, [GRID])
    return engine


def expected(
    qkv: tuple[torch.Tensor, ...], video: slice, engine: Engine, rates: tuple[float, float], hidden: Any = None
) -> np.ndarray:
    schedule = engine.schedule
    assert schedule is not None
    parts = [
        oracle.partition(GRID, schedule.stride, window_seed(schedule.seed, f, 0, 0), schedule.coverage) for f in "QV"
    ]
    q, k, v = (x.double().numpy() for x in qkv)
    out = np.empty_like(q)
    for item in range(q.shape[0]):
        for head in range(q.shape[1]):
            one = q[item, head], k[item, head], v[item, head]
            mask = None if hidden is None else hidden[item]
            out[item, head] = oracle.attention(*one, video, *parts, *rates, schedule.reduction, schedule.metric, mask)
    return out


@pytest.mark.parametrize("video", ["first", "last"])
@pytest.mark.parametrize(
    ("rates", "settings"),
    [
        ((0.5, 0.0), {}),
        ((0.0, 0.5), {}),
        ((0.6, 0.3), {"seed": 7}),
        ((0.3, 0.6), {"reduction": "mean"}),
        ((0.4, 0.7), {"metric": "cosine"}),
        ((0.7, 0.2), {"metric": "dot"}),
        ((0.5, 0.5), {"coverage": "paper", "reduction": "mean"}),
        ((0.5, 0.5), {"stride": (9, 3, 1)}),
        ((0.5, 0.6), {"stride": (1, 2, 2), "metric": "cosine", "reduction": "mean"}),
        ((0.8, 0.5), {"stride": (2, 4, 4), "metric": "dot", "coverage": "paper"}),
        ((0.6, 0.7), {"stride": (6, 2, 2), "coverage": "paper", "reduction": "mean"}),
    ],
)
def test_attention(video: Literal["first", "last"], rates: tuple[float, float], settings: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(1)
    qkv = tuple(torch.randn(SHAPE, generator=generator) for _ in range(3))
    engine = engine_for(video, *rates, **settings)
    place = slice(0, 60) if video == "first" else slice(TEXT, None)
    output = engine.attend(Site(engine, 0, 0), *qkv, None, "bhsd", sdpa)
    np.testing.assert_allclose(output.numpy(), expected(qkv, place, engine, rates), atol=2e-6)


@pytest.mark.parametrize("uniform", [False, True])
def test_attention_with_hidden_text_in_the_other_layout(uniform: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    qkv = tuple(torch.randn(SHAPE, generator=generator) for _ in range(3))
    engine = engine_for("first", 0.5, 0.4)
    object.__setattr__(engine.adapter, "uniform_mask", uniform)
    visible = torch.ones(2, 63, dtype=torch.bool)
    visible[0, 61:] = False
    output = engine.attend(
        Site(engine, 0, 0),
        *(x.transpose(1, 2) for x in qkv),
        visible,
        "bshd",
        lambda q, k, v, m: sdpa(*(x.transpose(1, 2) for x in (q, k, v)), m).transpose(1, 2),
    )
    want = expected(qkv, slice(0, 60), engine, (0.5, 0.4), hidden=~visible.numpy())
    np.testing.assert_allclose(output.transpose(1, 2).numpy(), want, atol=2e-6)


def test_masks_that_hide_video_tokens_follow_the_reduction() -> None:
    generator = torch.Generator().manual_seed(3)
    qkv = tuple(torch.randn(SHAPE, generator=generator) for _ in range(3))
    engine = engine_for("last", 0.5, 0.4)
    visible = torch.rand(2, 1, 1, 63, generator=generator) > 0.3
    visible[..., :TEXT] = True
    output = engine.attend(Site(engine, 0, 0), *qkv, visible, "bhsd", sdpa)
    want = expected(qkv, slice(TEXT, None), engine, (0.5, 0.4), hidden=~visible[:, 0, 0].numpy())
    np.testing.assert_allclose(output.numpy(), want, atol=2e-6)


@pytest.mark.parametrize("rate", [0.1, 0.35, 0.6, 0.8])
def test_tokens_kept_and_destinations(rate: float) -> None:
    features = torch.randn(1, 1, 60, 8, generator=torch.Generator().manual_seed(4))
    match = Match.of(features, make_partition(GRID, (2, 2, 2), torch.Generator().manual_seed(5)))
    plan = match.plan(rate)
    kept, replaced = oracle.reduce(
        features[0, 0].double().numpy(), match.partition.dst.tolist(), match.partition.src.tolist(), rate, "euclidean"
    )
    take = plan.take[0, 0].tolist()
    assert sorted(take) == kept
    back = [take[position] for position in plan.back[0, 0].tolist()]
    assert back == [replaced.get(token, token) for token in range(60)]


@pytest.mark.parametrize("reduction", ["discard", "mean"])
def test_random_matching(reduction: Any) -> None:
    """The seed draws the partition, then how similar each source is to which destination."""
    generator = torch.Generator().manual_seed(6)
    qkv = tuple(torch.randn(SHAPE, generator=generator) for _ in range(3))
    engine = engine_for("last", 0.0, 0.6, metric="random", reduction=reduction)
    output = engine.attend(Site(engine, 0, 0), *qkv, None, "bhsd", sdpa)
    draws = torch.Generator().manual_seed(window_seed(0, "V", 0, 0))
    part = make_partition(GRID, (2, 2, 2), draws)
    similar = torch.rand(2, 2, part.src.numel(), generator=draws)
    slot = torch.randint(0, part.dst.numel(), similar.shape, generator=draws, dtype=torch.int32).long()
    dropped = similar.argsort(-1)[..., : 60 - int(60 * 0.4)]
    k, v = qkv[1].clone(), qkv[2].clone()
    visible = torch.ones(2, 2, 1, SHAPE[2], dtype=torch.bool)
    for item in range(2):
        for head in range(2):
            gone = dropped[item, head]
            visible[item, head, 0, TEXT + part.src[gone]] = False
            for d in range(part.dst.numel()) if reduction == "mean" else ():
                group = torch.cat([part.dst[d : d + 1], part.src[gone[slot[item, head, gone] == d]]]) + TEXT
                k[item, head, TEXT + part.dst[d]] = qkv[1][item, head, group].mean(0)
                v[item, head, TEXT + part.dst[d]] = qkv[2][item, head, group].mean(0)
    np.testing.assert_allclose(output.numpy(), sdpa(qkv[0], k, v, visible).numpy(), atol=2e-6)


def test_the_forms_of_a_schedule_act_alike() -> None:
    generator = torch.Generator().manual_seed(8)
    qkv = tuple(torch.randn(SHAPE, generator=generator) for _ in range(3))
    similarity = {"Q": np.array([[0.75]]), "V": np.array([[0.4]])}
    rule = {"Q": {0.6: 0.3, 0.7: 0.6, 0.9: 0.8}, "V": {0.3: 0.5}}
    rates = {"Q": np.array([[0.6]]), "V": np.array([[0.5]])}
    schedules = [
        Schedule.from_thresholds(rule, similarity),
        Schedule.from_thresholds(rule, similarity, form="tier"),
        Schedule(rates=rates),
    ]
    assert [s.form for s in schedules] == ["threshold", "tier", "table"]
    assert len({s.content_hash() for s in schedules}) == 1
    want = expected(qkv, slice(0, 60), engine_for("first", 0.6, 0.5), (0.6, 0.5))
    for schedule in schedules:
        engine = Engine(ModelAdapter("", lambda _, __: [GRID], "first"), 1, schedule)
        engine.begin(999.0, None, None, [GRID])
        output = engine.attend(Site(engine, 0, 0), *qkv, None, "bhsd", sdpa)
        np.testing.assert_allclose(output.numpy(), want, atol=2e-6)
