"""PAB and AsymRnR on HunyuanVideo, as in the paper's table 3, on a tiny pipeline."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DiffusionPipeline

import asymrnr
from asymrnr.schedule import Schedule
from tests.pipelines.helpers import latents
from tests.pipelines.tiny_pipelines import build

STEPS, BLOCKS = 10, 2
TABLE_8 = {"Q": {0.7: 0.9}, "V": {0.8: 0.3}}


def paper_schedule() -> Schedule:
    generator = np.random.default_rng(0)
    similarity = {feature: generator.random((BLOCKS, STEPS)) for feature in TABLE_8}
    return Schedule.from_thresholds(TABLE_8, similarity, stride=(6, 2, 2), cache_step=3)


def pyramid(pipe: Any) -> Any:
    return diffusers.PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(100, 800),
        current_timestep_callback=lambda: pipe.current_timestep,
    )


def test_both_together_compute_less_than_either(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe: DiffusionPipeline = build("hunyuanvideo")
    schedule, original = paper_schedule(), F.scaled_dot_product_attention
    scores = [0]

    def counting(query: torch.Tensor, key: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        scores[0] += query.shape[-2] * key.shape[-2]
        return original(query, key, *args, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counting)
    computed: dict[tuple[bool, bool], int] = {}
    outputs: dict[tuple[bool, bool], torch.Tensor] = {}
    for cached, reduced in ((False, False), (True, False), (False, True), (True, True), (False, False)):
        scores[0] = 0
        with ExitStack() as stack:
            if cached:
                pipe.transformer.enable_cache(pyramid(pipe))
                stack.callback(pipe.transformer.disable_cache)
            if reduced:
                stack.enter_context(asymrnr.apply(pipe, schedule))
            output = latents(pipe, "hunyuanvideo", STEPS)
        assert torch.isfinite(output).all()
        assert torch.equal(output, outputs.setdefault((cached, reduced), output))
        assert scores[0] == computed.setdefault((cached, reduced), scores[0])
    plain, pab, ours, both = (computed[key] for key in ((False, False), (True, False), (False, True), (True, True)))
    assert both < min(pab, ours)
    assert max(pab, ours) < plain
