"""Recovers both objects of a scene, and what the camera does, from the pixels of a video, without any model."""

from __future__ import annotations

import torch

from tuner.embedded.checker import MAX_COLOR_DISTANCE, MIN_PIXELS, direction_of, shape_of
from tuner.embedded.scenes import CAMERA_SPEED, CAMERAS, Scene, Thing
from tuner.embedded.world import BACKGROUNDS, COLORS, SIZE

CHECKED = ("color", "shape", "direction", "camera")
SEEN = 3  # frames in which an object must be whole; less shows no direction
WHOLE = 0.85  # of the area that it reaches in SEEN frames; with less an object is taken for hidden in part
SHARE = 0.9  # of the change of a background at rest; a pan explains more than that
LEAST_CHANGE = 3e-4  # squared; a background that changes less has nothing that could move


def recover(video: torch.Tensor) -> tuple[list[Thing | None], str]:
    """What the video shows.

    Args:
        video: (frames, 3, SIZE, SIZE) in [0, 1].

    Returns:
        The two objects that most pixels belong to, None where one cannot be told, and what the camera does.
    """
    video = video.float().cpu()
    names = list(COLORS)
    palette = torch.tensor([*COLORS.values(), *BACKGROUNDS.values()])
    nearest, index = (video[:, None] - palette[None, :, :, None, None]).square().sum(2).sqrt().min(1)
    masks = torch.stack([(index == i) & (nearest < MAX_COLOR_DISTANCE) for i in range(len(names))])
    largest = masks.flatten(1).sum(1).argsort(descending=True)[:2].tolist()
    things = [_thing(names[i], masks[i]) for i in largest]
    return things, _camera(video, masks[largest].any(0))


def _thing(color: str, mask: torch.Tensor) -> Thing | None:
    area = mask.flatten(1).sum(1).float()
    if int((area >= MIN_PIXELS).sum()) < SEEN:
        return None
    reached = float(area.sort(descending=True).values[SEEN - 1])  # the largest may be that of one odd frame
    whole = area >= max(float(MIN_PIXELS), WHOLE * reached)
    axis = torch.arange(SIZE) + 0.5
    cx = (mask * axis).flatten(1).sum(1)[whole] / area[whole]
    cy = (mask * axis[:, None]).flatten(1).sum(1)[whole] / area[whole]
    times = torch.arange(len(mask), dtype=torch.float32)[whole]
    return Thing(color, shape_of(mask[whole], cx, cy), direction_of(times, cx, cy) or "")


def _camera(video: torch.Tensor, objects: torch.Tensor) -> str:
    """The pan under which the background, where no object is, changes least from frame to frame."""
    edge = objects.float()[:, None]
    hidden = torch.nn.functional.max_pool2d(edge, 5, stride=1, padding=2)[:, 0] > 0
    errors = {}
    for name, way in CAMERAS.items():
        shift = way * CAMERA_SPEED
        now, before = slice(max(0, -shift), SIZE - max(0, shift)), slice(max(0, shift), SIZE - max(0, -shift))
        seen = ~(hidden[1:, :, now] | hidden[:-1, :, before])
        change = (video[1:, :, :, now] - video[:-1, :, :, before]).square().sum(1)
        errors[name] = float(change[seen].mean()) if bool(seen.any()) else float("inf")
    still, *_ = CAMERAS
    best = min(errors, key=lambda name: errors[name])
    return best if errors[still] > LEAST_CHANGE and errors[best] < SHARE * errors[still] else still


def attributes_right(video: torch.Tensor, scene: Scene) -> dict[str, bool]:
    """Which of the checked attributes the video shows as its caption says, of both objects."""
    things, camera = recover(video)
    found = {thing.color: thing for thing in things if thing is not None}
    pairs = [(thing, found.get(thing.color)) for thing in scene.things]

    def right(name: str) -> bool:
        return all(shown is not None and getattr(shown, name) == getattr(thing, name) for thing, shown in pairs)

    return {**{name: right(name) for name in ("color", "shape", "direction")}, "camera": camera == scene.camera}
