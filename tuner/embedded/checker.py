"""Recovers a scene's colour, shape and direction from the pixels of a video, without any model."""

from __future__ import annotations

import math

import torch

from tuner.embedded.world import BACKGROUNDS, COLORS, SHAPES, SIZE, Scene, signed_distance

CHECKED = ("color", "shape", "direction")
MAX_COLOR_DISTANCE = 0.38
MIN_PIXELS = 30
MIN_SPEED = 0.5  # pixels per frame
NORMAL = 1.4826  # standard deviation of a normal distribution over its median absolute deviation

# area = factor * radius^2, and how far below the shape's origin its centroid lies, in radii
_AREA = {"circle": math.pi, "bar": 4 * 1.1 * 0.4, "triangle": 1.805}
_CENTROID = {"circle": 0.0, "bar": 0.0, "triangle": 1 / 6}


def _object_masks(video: torch.Tensor) -> tuple[str | None, torch.Tensor]:
    """The object's colour and its (frames, SIZE, SIZE) mask: pixels nearer to that colour than to any other."""
    names = list(COLORS)
    palette = torch.tensor([*COLORS.values(), *BACKGROUNDS.values()])
    distance = (video[:, None] - palette[None, :, :, None, None]).square().sum(2).sqrt()
    nearest, index = distance.min(1)
    counts = torch.stack([((index == i) & (nearest < MAX_COLOR_DISTANCE)).sum() for i in range(len(names))])
    best = int(counts.argmax())
    mask = (index == best) & (nearest < MAX_COLOR_DISTANCE)
    return (names[best] if int(counts[best]) else None), mask


def _shape_overlap(shape: str, mask: torch.Tensor, cx: float, cy: float) -> float:
    """Intersection over union of a mask with the shape of equal area and centroid."""
    radius = math.sqrt(float(mask.sum()) / _AREA[shape])
    axis = torch.arange(SIZE) + 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    template = signed_distance(shape, x - cx, y - (cy - _CENTROID[shape] * radius), radius) < 0
    return float((template & mask).sum() / (template | mask).sum())


def shape_of(masks: torch.Tensor, cx: torch.Tensor, cy: torch.Tensor) -> str:
    """The shape that (frames, SIZE, SIZE) masks with these centroids overlap most with."""

    def overlap(shape: str) -> float:
        return sum(_shape_overlap(shape, m, float(x), float(y)) for m, x, y in zip(masks, cx, cy, strict=True))

    return max(SHAPES, key=overlap)


def direction_of(times: torch.Tensor, cx: torch.Tensor, cy: torch.Tensor) -> str | None:
    """Named direction of the centroid's least-squares velocity; None when it hardly moves."""
    centred = times - times.mean()
    spread = centred.square().sum()
    vx, vy = float((centred * cx).sum() / spread), float((centred * cy).sum() / spread)
    if max(abs(vx), abs(vy)) < MIN_SPEED:
        return None
    if abs(vx) > abs(vy):
        return "right" if vx > 0 else "left"
    return "down" if vy > 0 else "up"


def recover(video: torch.Tensor) -> dict[str, str | None]:
    """What the video shows.

    Args:
        video: (frames, 3, SIZE, SIZE) in [0, 1].

    Returns:
        `color`, `shape` and `direction`, each None when it cannot be told.
    """
    color, mask = _object_masks(video.float().cpu())
    area = mask.flatten(1).sum(1).float()
    seen = area >= MIN_PIXELS
    if color is None or int(seen.sum()) < max(3, len(video) // 2):
        return dict.fromkeys(CHECKED)
    axis = torch.arange(SIZE) + 0.5
    cx = (mask * axis).flatten(1).sum(1)[seen] / area[seen]
    cy = (mask * axis[:, None]).flatten(1).sum(1)[seen] / area[seen]
    times = torch.arange(len(video), dtype=torch.float32)[seen]
    return {"color": color, "shape": shape_of(mask[seen], cx, cy), "direction": direction_of(times, cx, cy)}


def attributes_right(video: torch.Tensor, scene: Scene) -> dict[str, bool]:
    """Which of the checked attributes the video shows as its caption says."""
    found = recover(video)
    return {name: found[name] == getattr(scene, name) for name in CHECKED}


def unevenness(video: torch.Tensor) -> float:
    """How uneven a background is along its rows, in grey levels of 255; a plain one is even but for noise.

    The median absolute deviation of a row passes over an object that covers less than half of it.

    Args:
        video: (frames, 3, height, width) in [0, 1].
    """
    away = (video - video.median(dim=3, keepdim=True).values).abs()
    return float(away.median(dim=3).values.square().mean().sqrt()) * NORMAL * 255
