"""What the model's card says is measured right."""

from __future__ import annotations

import pytest
import torch

from tuner.embedded.publish import noise_level
from tuner.embedded.world import render, sample_scenes


@pytest.mark.parametrize("sigma", [1.0, 4.0, 10.0])
def test_added_noise_is_recovered_on_plain_and_striped_backgrounds(sigma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for scene in (s for s in sample_scenes(6, generator) if s.texture != "checkered"):
        video = (render(scene, generator) + 1) / 2
        assert noise_level(video) < 0.5
        noisy = video + sigma / 255 * torch.randn(video.shape, generator=generator)
        assert noise_level(noisy) == pytest.approx(sigma, rel=0.2)
