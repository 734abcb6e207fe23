"""What the model's card says is measured right."""

from __future__ import annotations

import pytest
import torch

from tuner.embedded.checker import unevenness
from tuner.embedded.hunyuanvideo import HunyuanVideo
from tuner.embedded.publish import CAPTIONS, EVEN, Evaluation, card, noise_level
from tuner.embedded.world import render, sample_scenes


@pytest.mark.parametrize("sigma", [1.0, 4.0, 10.0])
def test_added_noise_is_recovered_on_plain_and_striped_backgrounds(sigma: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for scene in (s for s in sample_scenes(6, generator) if s.texture != "checkered"):
        video = (render(scene, generator) + 1) / 2
        assert noise_level(video) < 0.5
        noisy = video + sigma / 255 * torch.randn(video.shape, generator=generator)
        assert noise_level(noisy) == pytest.approx(sigma, rel=0.2)


def test_plain_backgrounds_are_even_and_no_others() -> None:
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for scene in sample_scenes(24, generator):
        video = (render(scene, generator) + 1) / 2
        assert (unevenness(video) <= EVEN) == (scene.texture == "plain"), scene.caption
        seen.add(scene.texture)
        if scene.texture == "plain":
            assert unevenness(video) < 0.5
            noisy = video + 2 / 255 * torch.randn(video.shape, generator=generator)
            assert unevenness(noisy) == pytest.approx(2, rel=0.25)
    assert len(seen) == 3


def test_the_card_says_what_was_found_and_what_falls_short() -> None:
    accuracy = {"color": 1.0, "direction": 46 / CAPTIONS, "shape": 0.875}
    found = [Evaluation(20, accuracy, 1.5, 7.25, []), Evaluation(8, {**accuracy, "shape": 0.9}, 2.25, 3.0, [])]
    bars = HunyuanVideo.world.bars
    assert found[0].missed(bars) == ["shape in 20 steps"]
    assert found[1].missed(bars) == ["noise in 8 steps"]
    text = card(HunyuanVideo, found, 5.7, "on a bench")
    assert "| attribute | right in 20 steps | right in 8 steps | bar |\n|---|---|---|---|\n" in text
    assert "| direction | 95.8% | 95.8% | 95% |" in text
    assert "7.2 s in 20 steps and 3.0 s in 8 steps" in text
    assert "1.50 and 2.25 grey" in text
    assert "on a bench; 5.7 MB" in text


def test_the_card_says_how_many_plain_backgrounds_are_plain() -> None:
    bars = HunyuanVideo.world.bars
    found = Evaluation(20, dict.fromkeys(bars, 1.0), 1.0, 7.0, [], (0.5, 3.9, 12.3))
    assert found.missed(bars) == ["plain backgrounds in 20 steps"]
    text = card(HunyuanVideo, [found], 5.7, "on a bench")
    assert "| shape | 100.0% | 90% |\n| plain background, where asked for | 2 of 3 | 95% |\n\nPlain" in text
    assert "varies by 12.3.\n\nPixel noise" in text
    assert Evaluation(20, found.accuracy, 1.0, 7.0, [], (0.5, 3.9)).missed(bars) == []
