"""Metrics against closed forms and an independent implementation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d

from tuner.quality.metrics import flicker, mse, psnr, relative_l2, sharpness, ssim
from tuner.run.allocations import allocations


@pytest.fixture
def video() -> torch.Tensor:
    return torch.rand(3, 3, 20, 24, generator=torch.Generator().manual_seed(0))


def test_errors_of_a_constant_shift(video: torch.Tensor) -> None:
    assert mse(video + 0.1, video) == pytest.approx(0.01, rel=1e-4)
    assert psnr(video + 0.1, video) == pytest.approx(20.0, abs=1e-3)
    assert relative_l2(1.5 * video, video) == pytest.approx(0.5, rel=1e-5)


def test_identical_videos(video: torch.Tensor) -> None:
    assert mse(video, video) == 0
    assert psnr(video, video) == 100
    assert ssim(video, video) == pytest.approx(1.0, abs=1e-5)


def test_ssim_agrees_with_a_plain_implementation(video: torch.Tensor) -> None:
    other = (video + 0.2 * torch.randn(video.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    line /= line.sum()

    def blur(image: np.ndarray) -> np.ndarray:
        return correlate1d(correlate1d(image, line, axis=0), line, axis=1)[5:-5, 5:-5]

    values = []
    for x, y in zip(video.flatten(0, 1).double().numpy(), other.flatten(0, 1).double().numpy(), strict=True):
        mx, my = blur(x), blur(y)
        vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        c1, c2 = 1e-4, 9e-4
        values.append(((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean())
    assert ssim(other, video) == pytest.approx(np.mean(values), abs=1e-4)


def test_flicker_is_the_mean_step_between_frames() -> None:
    ramp = torch.arange(5).view(5, 1, 1, 1).expand(5, 3, 8, 8) * 0.05
    assert flicker(ramp) == pytest.approx(0.05)
    assert flicker(torch.zeros(4, 3, 8, 8)) == 0


def test_sharpness_falls_with_blur(video: torch.Tensor) -> None:
    blurred = torch.nn.functional.avg_pool2d(video, 3, stride=1, padding=1)
    assert sharpness(blurred) < 0.3 * sharpness(video)
    assert sharpness(torch.full((2, 3, 8, 8), 0.4)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("metric", [mse, psnr, ssim, lambda x, _: flicker(x), lambda x, _: sharpness(x)])
def test_longer_videos_take_no_more_memory_and_frames_count_alike(metric: Callable[..., float]) -> None:
    generator = torch.Generator().manual_seed(2)
    whole, other = (torch.rand(18, 3, 24, 24, generator=generator) for _ in range(2))
    peaks = []
    for frames in (9, 18):
        with allocations() as found:
            metric(whole[:frames], other[:frames])
        peaks.append(found.peak)
    assert peaks[1] <= 1.05 * peaks[0] + 1024
    one_by_one = [metric(whole[i : i + 1], other[i : i + 1]) for i in range(18)]
    if metric in (mse, ssim):
        assert metric(whole, other) == pytest.approx(np.mean(one_by_one), rel=1e-5)
