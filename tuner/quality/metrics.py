"""How far one video is from another, and what one is like by itself.

Videos are (frames, 3, height, width) in [0, 1].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2


def mse(video: torch.Tensor, reference: torch.Tensor) -> float:
    """Mean squared error over all values."""
    return float((video.float() - reference.float()).square().mean())


def psnr(video: torch.Tensor, reference: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 1; 100 for identical videos."""
    return min(100.0, -10 * math.log10(max(mse(video, reference), 1e-10)))


def relative_l2(value: torch.Tensor, reference: torch.Tensor) -> float:
    """Norm of the difference over the norm of the reference."""
    return float((value.float() - reference.float()).norm() / reference.float().norm())


def ssim(video: torch.Tensor, reference: torch.Tensor) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian 11x11 windows, sigma 1.5; mean over everything."""
    x, y = video.float(), reference.float()
    mean_x, mean_y = _blur(x), _blur(y)
    var_x = _blur(x * x) - mean_x.square()
    var_y = _blur(y * y) - mean_y.square()
    covariance = _blur(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + SSIM_C1) / (mean_x.square() + mean_y.square() + SSIM_C1)
    structure = (2 * covariance + SSIM_C2) / (var_x + var_y + SSIM_C2)
    return float((luminance * structure).mean())


def flicker(video: torch.Tensor) -> float:
    """Mean absolute difference of consecutive frames, in [0, 1]; VBench's temporal flickering score is 1 minus this.

    A single frame has none.
    """
    if len(video) < 2:
        return 0.0
    return float((video[1:].float() - video[:-1].float()).abs().mean())


def sharpness(video: torch.Tensor) -> float:
    """Variance of the Laplacian of the luma, mean over frames."""
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    luma = (video.float() * weights).sum(1, keepdim=True)
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]).view(1, 1, 3, 3)
    return float(F.conv2d(luma, kernel).flatten(1).var(dim=1).mean())


def _blur(x: torch.Tensor) -> torch.Tensor:
    """Valid Gaussian filtering of every channel."""
    axis = torch.arange(SSIM_WINDOW, dtype=torch.float32) - SSIM_WINDOW // 2
    line = torch.exp(-axis.square() / (2 * SSIM_SIGMA**2))
    line = line / line.sum()
    flat = x.flatten(0, 1)[:, None]
    flat = F.conv2d(F.conv2d(flat, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1))
    return flat[:, 0].unflatten(0, x.shape[:2])
