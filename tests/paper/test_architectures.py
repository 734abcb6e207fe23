"""What operations are counted for is what the registry generates."""

from __future__ import annotations

import math

import pytest

from tuner.models import REGISTRY
from tuner.paper.architectures import ARCHITECTURES


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_workloads_are_the_registrys(name: str) -> None:
    entry, architecture = REGISTRY[name], ARCHITECTURES[name]
    assert architecture.grid == entry.sizes.grid(entry.workload)
    assert architecture.steps == entry.workload.steps
    assert architecture.text_tokens == entry.workload.max_sequence_length
    assert max(architecture.attended_text, architecture.crossed_text) <= architecture.text_tokens


def test_the_embedded_models_blocks_are_those_it_has() -> None:
    from diffusers import CogVideoXTransformer3DModel

    transformer = CogVideoXTransformer3DModel.from_pretrained(REGISTRY["tiny-cogvideox"].source / "transformer")
    weights = sum(p.numel() for block in transformer.transformer_blocks for p in block.parameters() if p.dim() == 2)
    modulation = sum(
        p.numel()
        for block in transformer.transformer_blocks
        for norm in (block.norm1, block.norm2)
        for p in norm.linear.parameters()
        if p.dim() == 2
    )
    blocks = ARCHITECTURES["tiny-cogvideox"].blocks
    assert sum(block.video_attention + block.video_rest for block in blocks) == weights - modulation
    assert math.prod(ARCHITECTURES["tiny-cogvideox"].grid) == 3072
