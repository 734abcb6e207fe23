from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import CogVideoXTransformer3DModel

STEPS, BLOCKS = 6, 2


@pytest.fixture
def transformer() -> CogVideoXTransformer3DModel:
    """Grid 4 x 4 x 6; the output projection of attention passes its input on, so that outputs can be compared."""
    torch.manual_seed(0)
    model = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=8,
        num_layers=BLOCKS,
        sample_width=12,
        sample_height=8,
        sample_frames=13,
        max_text_seq_length=5,
    ).eval()
    with torch.no_grad():
        for block in model.transformer_blocks:
            block.attn1.to_q.weight.mul_(3)
            block.attn1.to_out[0].weight.copy_(torch.eye(32))
            block.attn1.to_out[0].bias.zero_()
    return model


@pytest.fixture
def denoise(transformer: CogVideoXTransformer3DModel) -> Callable[[], None]:
    """Calls the model step by step like a sampler, both guidance branches in one batch."""
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(2, 4, 4, 8, 12, generator=generator)
    drift = torch.randn(2, 4, 4, 8, 12, generator=generator)
    text = torch.randn(2, 5, 8, generator=generator)

    @torch.no_grad()
    def run() -> None:
        for step in range(STEPS):
            time = torch.full((2,), 900.0 - 100 * step)
            transformer(start + 0.3 * step * drift, text, time, return_dict=False)

    return run
