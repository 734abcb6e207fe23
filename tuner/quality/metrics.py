"""How far one video is from another, and what one is like by itself.

Videos are (frames, 3, height, width) in [0, 1], and looked at a few frames at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
FRAMES = 4  # at a time: SSIM takes a dozen times their memory


def mse(video: torch.Tensor, reference: torch.Tensor) -> float:
    """Mean squared error over all values."""
    total = sum(float((x - y).square_().sum(dtype=torch.float64)) for x, y in _pieces(video, reference))
    return total / video.numel()


def psnr(video: torch.Tensor, reference: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 1; 100 for identical videos."""
    return min(100.0, -10 * math.log10(max(mse(video, reference), 1e-10)))


def relative_l2(value: torch.Tensor, reference: torch.Tensor) -> float:
    """Norm of the difference over the norm of the reference."""
    return float((value.float() - reference.float()).norm() / reference.float().norm())


def ssim(video: torch.Tensor, reference: torch.Tensor) -> float:
    """Structural similarity (Wang et al. 2004): Gaussian 11x11 windows, sigma 1.5; mean over everything."""
    return sum(len(x) * _ssim(x, y) for x, y in _pieces(video, reference)) / len(video)


def _ssim(x: torch.Tensor, y: torch.Tensor) -> float:
    """`ssim` of float32 frames, all at once."""
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
    total = sum(float((x - y).abs_().sum(dtype=torch.float64)) for x, y in _pieces(video[1:], video[:-1]))
    return total / video[1:].numel()


def sharpness(video: torch.Tensor) -> float:
    """Variance of the Laplacian of the luma, mean over frames."""
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]).view(1, 1, 3, 3)
    lumas = ((x * weights).sum(1, keepdim=True) for (x,) in _pieces(video))
    return float(torch.cat([F.conv2d(luma, kernel).flatten(1).var(dim=1) for luma in lumas]).mean())


def _pieces(*videos: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """The same few frames of all, in float32."""
    for pieces in zip(*(video.split(FRAMES) for video in videos), strict=True):
        yield tuple(piece.float() for piece in pieces)


def _blur(x: torch.Tensor) -> torch.Tensor:
    """Valid Gaussian filtering of every channel."""
    axis = torch.arange(SSIM_WINDOW, dtype=torch.float32) - SSIM_WINDOW // 2
    line = torch.exp(-axis.square() / (2 * SSIM_SIGMA**2))
    line = line / line.sum()
    flat = x.flatten(0, 1)[:, None]
    flat = F.conv2d(F.conv2d(flat, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1))
    return flat[:, 0].unflatten(0, x.shape[:2])
