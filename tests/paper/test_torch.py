"""The counter agrees with torch's own on the real diffusers classes, exactly."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import asymrnr
from asymrnr import Schedule
from tests.runtime.tiny import build, cogvideox, hunyuan, ltx, mochi, run, wan
from tuner.paper.architectures import (
    Architecture,
    Block,
    cogvideox_blocks,
    crossed_blocks,
    hunyuan_blocks,
    mochi_blocks,
)
from tuner.paper.counter import FlopCount, count_flops

WIDTH, HEADS = 32, 2
GRID = (4, 6, 6)
BATCH = 2
RATES = {"Q": [0.5, 0.0, 0.7, 0.0], "V": [0.3, 0.4, 0.0, 0.0]}


def hunyuan_of_narrow_mlps() -> Any:
    return hunyuan(mlp_ratio=3)


def tiny(blocks: tuple[Block, ...], text: int, attended: int) -> Architecture:
    return Architecture(GRID, text, attended, WIDTH, blocks, 1, BATCH, (2, 2, 2), 1, 10)


# Text lengths as in tests/runtime/tiny.py; of Mochi's 7 text tokens 5 are valid.
MODELS: list[tuple[Any, Architecture]] = [
    (cogvideox, tiny(cogvideox_blocks(WIDTH, 2), 8, 8)),
    (hunyuan, tiny(hunyuan_blocks(WIDTH, 2, 2), 9, 9)),
    (hunyuan_of_narrow_mlps, tiny(hunyuan_blocks(WIDTH, 2, 2, mlp_ratio=3), 9, 9)),
    (mochi, tiny(mochi_blocks(WIDTH, 16, 3), 7, 5)),
    (wan, replace(tiny(crossed_blocks(WIDTH, 32, 2), 9, 0), crossed_text=9)),
    (ltx, replace(tiny(crossed_blocks(WIDTH, 4 * WIDTH, 2), 9, 0), crossed_text=9)),
]


def measure(denoiser: Any, schedule: Schedule | None) -> int:
    """FLOPs of all blocks in one forward pass, without the modulation layers, which see one vector per video."""
    model, inputs = build(denoiser)
    if denoiser is mochi:
        inputs["encoder_attention_mask"] = (torch.arange(7) < 5).float().expand(BATCH, -1)
    handle = None if schedule is None else asymrnr.apply(model, schedule)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run(model, inputs)
    if handle is not None:
        handle.remove()
    counts = {name.split(".", 1)[1]: sum(ops.values()) for name, ops in counter.flop_counts.items() if "." in name}
    total = 0
    for name, module in model.named_modules():
        parent = name.rpartition(".")[0]
        if parent in {"transformer_blocks", "single_transformer_blocks", "blocks"}:
            total += counts[name]
        elif "transformer_blocks" in name and ".norm" in name and isinstance(module, torch.nn.Linear):
            total -= counts[name]
    return total


def scheduled(blocks: int, rates: dict[str, list[float]], **settings: Any) -> Schedule:
    return Schedule(rates={f: np.array(values[:blocks])[:, None] for f, values in rates.items()}, **settings)


def total(count: FlopCount, heads: float = HEADS) -> float:
    """The count with what torch sees beside it: matching multiplies one more column, the offset, in every head."""
    return count.flops + count.matching_flops * (1 + heads / WIDTH)


@pytest.mark.parametrize(("denoiser", "architecture"), MODELS, ids=lambda x: getattr(x, "__name__", ""))
def test_baselines_agree(denoiser: Any, architecture: Architecture) -> None:
    assert measure(denoiser, None) == count_flops(architecture).baseline_flops


@pytest.mark.parametrize("stride", [(2, 2, 2), (1, 3, 2), (3, 4, 2)])
@pytest.mark.parametrize(("denoiser", "architecture"), MODELS, ids=lambda x: getattr(x, "__name__", ""))
def test_schedules_agree_with_their_matching(denoiser: Any, architecture: Architecture, stride: Any) -> None:
    schedule = scheduled(len(architecture.blocks), RATES, stride=stride)
    assert measure(denoiser, schedule) == total(count_flops(architecture, schedule))


# With rotary embeddings one matching of the hidden states serves both batch items, which makes half a column for each;
# where one of two matchings is of Q, the average of that and the heads.
@pytest.mark.parametrize(
    ("rates", "heads"), [({"H": [0.5, 0.3]}, 1 / BATCH), ({"H": [0.5, 0.4], "Q": [0.0, 0.5]}, (1 / BATCH + HEADS) / 2)]
)
def test_symmetric_reduction_agrees(rates: dict[str, list[float]], heads: float) -> None:
    schedule = scheduled(2, rates)
    assert measure(cogvideox, schedule) == total(count_flops(MODELS[0][1], schedule), heads)


def test_random_matching_costs_nothing() -> None:
    schedule = scheduled(2, RATES, metric="random")
    count = count_flops(MODELS[0][1], schedule)
    assert count.matching_flops == 0
    assert measure(cogvideox, schedule) == count.flops


def test_matchings_are_counted_once_per_window() -> None:
    architecture = Architecture(GRID, 8, 8, WIDTH, cogvideox_blocks(WIDTH, 2), 6, BATCH, (2, 2, 2), 1, 10)
    q = np.array([[0.5, 0.5, 0.5, 0.5, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0, 0.5, 0.0]])
    one = 2 * BATCH * (math.prod(GRID) - 18) * 18 * WIDTH
    for cache_step, windows in [(1, 7), (2, 4), (3, 3), (4, 3), (6, 2)]:
        schedule = Schedule(rates={"Q": q}, stride=(2, 2, 2), cache_step=cache_step)
        assert count_flops(architecture, schedule).matching_flops == windows * one


@pytest.mark.parametrize("radius", [0, 1])
def test_a_matching_restricted_by_a_radius_is_counted_by_its_pairs(radius: int) -> None:
    """Two features on a grid of 2 x 3 x 3 chunks with 8 tokens each: every one has 7 sources."""
    schedule = scheduled(1, {"Q": [0.5], "V": [0.3]}, match_radius=radius)
    near = {0: 2 * 3 * 3, 1: (2 * 2) * (2 + 3 + 2) ** 2}[radius]  # neighbouring chunks, each chunk itself included
    architecture = tiny(cogvideox_blocks(WIDTH, 1), 8, 8)
    assert count_flops(architecture, schedule).matching_flops == 2 * (2 * BATCH * 7 * near * WIDTH)
