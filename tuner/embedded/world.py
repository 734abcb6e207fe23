"""The procedural world the embedded models are trained on: captioned videos rendered on the fly.

A video shows one coloured shape moving in a named direction, slowly or quickly, over a textured background. Every
attribute is a word of the caption; position, size and brightness are left to the random generator, so that two seeds of
one caption differ. Frames are 64x64 RGB in [-1, 1].
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

SIZE = 64
FRAMES = 12

COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.12, 0.10),
    "green": (0.10, 0.80, 0.15),
    "blue": (0.15, 0.25, 0.95),
    "yellow": (0.95, 0.90, 0.10),
    "magenta": (0.90, 0.15, 0.85),
    "white": (0.97, 0.97, 0.97),
}
BACKGROUNDS: dict[str, tuple[float, float, float]] = {
    "black": (0.08, 0.08, 0.08),
    "gray": (0.42, 0.42, 0.42),
    "brown": (0.42, 0.26, 0.12),
    "teal": (0.05, 0.40, 0.40),
}
SHAPES = ("circle", "bar", "triangle")  # little alike: a square is hard to tell from a circle at this size
DIRECTIONS: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
SPEEDS: dict[str, float] = {"slowly": 1.3, "quickly": 2.0}  # pixels per frame
TEXTURES = ("plain", "striped", "checkered")

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "color": tuple(COLORS),
    "shape": SHAPES,
    "direction": tuple(DIRECTIONS),
    "speed": tuple(SPEEDS),
    "texture": TEXTURES,
    "background": tuple(BACKGROUNDS),
}


@dataclass(frozen=True)
class Scene:
    """The attributes of one video, each a word of its caption."""

    color: str
    shape: str
    direction: str
    speed: str
    texture: str
    background: str

    @property
    def caption(self) -> str:
        return (
            f"a {self.color} {self.shape} moving {self.speed} {self.direction} "
            f"on a {self.texture} {self.background} background"
        )


def following(values: Sequence[str], value: str) -> str:
    """The value after another one; after the last one the first."""
    return values[(values.index(value) + 1) % len(values)]


def changed(scene: Scene, attribute: str) -> Scene:
    """The same scene but for one attribute."""
    return replace(scene, **{attribute: following(ATTRIBUTES[attribute], getattr(scene, attribute))})


def vocabulary() -> list[str]:
    """Every word a caption can hold, in a fixed order (the tokenizer's vocabulary)."""
    words = ["a", "moving", "on", "background"]
    for values in ATTRIBUTES.values():
        words.extend(values)
    return list(dict.fromkeys(words))


def is_held_out(scene: Scene) -> bool:
    """Whether the scene's caption is one of the about 8 % that training never sees."""
    return zlib.crc32(scene.caption.encode()) % 12 == 0


def sample_scenes(count: int, generator: torch.Generator, held_out: bool = False) -> list[Scene]:
    """Draw `count` scenes uniformly from the captions for training, or from those held out."""
    scenes: list[Scene] = []
    while len(scenes) < count:
        fields = {
            name: values[int(torch.randint(0, len(values), (), generator=generator))]
            for name, values in ATTRIBUTES.items()
        }
        scene = Scene(**fields)
        if is_held_out(scene) == held_out:
            scenes.append(scene)
    return scenes


def parse_caption(caption: str) -> Scene:
    """The scene a caption names.

    Raises:
        ValueError: the caption is not of the world's form; the message shows one that is.
    """
    words = caption.split()
    if len(words) == 11:
        fields = {
            "color": words[1],
            "shape": words[2],
            "speed": words[4],
            "direction": words[5],
            "texture": words[8],
            "background": words[9],
        }
        if all(fields[name] in ATTRIBUTES[name] for name in fields):
            scene = Scene(**fields)
            if scene.caption == caption:
                return scene
    example = Scene("red", "circle", "left", "slowly", "plain", "black").caption
    raise ValueError(f"'{caption}' is not a caption of the embedded world; one is '{example}'.")


def signed_distance(shape: str, dx: torch.Tensor, dy: torch.Tensor, radius: float) -> torch.Tensor:
    """Distance to the outline in pixels, negative inside."""
    if shape == "circle":
        return (dx.square() + dy.square()).sqrt() - radius
    if shape == "bar":
        return torch.maximum(dx.abs() - 1.1 * radius, dy.abs() - 0.4 * radius)
    return torch.maximum(dy - 0.8 * radius, 0.894 * dx.abs() - 0.447 * (dy + 1.1 * radius))


def _background(scene: Scene, x: torch.Tensor, y: torch.Tensor, brightness: float) -> torch.Tensor:
    """(3, SIZE, SIZE) in [0, 1]: the base colour, darker towards the bottom, with the texture added."""
    base = torch.tensor(BACKGROUNDS[scene.background])[:, None, None]
    shade = brightness * (1.12 - 0.24 * y / SIZE)
    stripes = torch.sin(2 * math.pi * x / 16)
    if scene.texture == "striped":
        pattern = 0.10 * stripes
    elif scene.texture == "checkered":
        pattern = 0.10 * (4 * stripes * torch.sin(2 * math.pi * y / 16)).clamp(-1, 1)
    else:
        pattern = torch.zeros_like(x)
    return (base * shade + pattern).clamp(0, 1)


def render(scene: Scene, generator: torch.Generator, times: Sequence[float] | None = None) -> torch.Tensor:
    """Render one video.

    Args:
        scene: what to show.
        generator: source of position, size and brightness.
        times: of the pictures wanted, in frames from the first one; all whole frames by default.

    Returns:
        (times, 3, SIZE, SIZE) in [-1, 1].
    """
    u = torch.rand(4, generator=generator).tolist()
    radius = 9.0 + 2.0 * u[0]
    brightness = 0.9 + 0.2 * u[1]
    along, across = 4 * u[2] - 5, 16 * u[3] - 8  # it starts near the centre and leaves it
    direction = torch.tensor(DIRECTIONS[scene.direction], dtype=torch.float32)
    side = direction.flip(0).abs()
    moments = torch.tensor(range(FRAMES) if times is None else times, dtype=torch.float32)
    travel = SPEEDS[scene.speed] * moments + along
    centre = SIZE / 2 + travel[:, None] * direction + across * side
    axis = torch.arange(SIZE) + 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    inside = 0.5 - signed_distance(scene.shape, x - centre[:, 0, None, None], y - centre[:, 1, None, None], radius)
    alpha = inside.clamp(0, 1)[:, None]
    colour = torch.tensor(COLORS[scene.color])[:, None, None]
    video = _background(scene, x, y, brightness) * (1 - alpha) + colour * alpha
    return video * 2 - 1
