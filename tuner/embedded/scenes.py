"""A harder world: two objects that may hide each other before a textured background that the camera may pan across.

Most of the single-object world (`world.py`) is an empty background, so that most tokens say the same and most errors
cannot be seen. Here textures are finer, one of them is grain that differs from seed to seed and has to move with the
camera, and the object behind has to come out again as it went in. A beam of light on the background shows under strong
noise already where the camera looks: of textures alone no model learned to pan. Frames are 64x64 RGB in [-1, 1].
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from tuner.embedded.world import BACKGROUNDS, COLORS, DIRECTIONS, SHAPES, SIZE, following, signed_distance

FRAMES = 12
SPEED, CAMERA_SPEED = 2.3, 2  # pixels per frame
MEETING = 2.8  # frames; were it half of the video, where objects are would say nothing of where they go
ORDERS = ("in front of", "behind")
TEXTURES = ("plain", "striped", "checkered", "speckled")
# other words than those of the objects' directions: which "left" is whose takes models long to learn
CAMERAS: dict[str, int] = {"stands still": 0, "pans leftward": -1, "pans rightward": 1}
PERIOD, GRAIN = 8, 4  # pixels
CONTRAST, GRAININESS = 0.07, 0.11  # of textures; of more than that models learn little else
BEAM, BEAM_WIDTH = (0.0, 0.1, 0.25), 3  # what it adds, like no object, and standard deviation in pixels
HELD_OUT = 12  # one caption of so many


def _one_of(name: str, words: Iterable[str]) -> str:
    return f"(?P<{name}>{'|'.join(words)})"


def _thing(n: int) -> str:
    color, shape, to = _one_of(f"color{n}", COLORS), _one_of(f"shape{n}", SHAPES), _one_of(f"to{n}", DIRECTIONS)
    return f"a {color} {shape} moving {to}"


_CAPTION = re.compile(
    f"{_thing(1)} {_one_of('order', ORDERS)} {_thing(2)} "
    f"on a {_one_of('texture', TEXTURES)} {_one_of('background', BACKGROUNDS)} background "
    f"while the camera {_one_of('camera', CAMERAS)}"
)


@dataclass(frozen=True)
class Thing:
    """An object that moves, each attribute a word of the caption."""

    color: str
    shape: str
    direction: str

    def __str__(self) -> str:
        return f"a {self.color} {self.shape} moving {self.direction}"


@dataclass(frozen=True)
class Scene:
    """One video.

    Attributes:
        things: two objects of different colours; one alone, or none, is for training and has no caption to ask for.
        order: where the first one is, seen from the second: "in front of" or "behind" it.
        texture, background: of what is behind both.
        camera: what it does; the background moves the other way, the objects as their directions say.
    """

    things: tuple[Thing, ...]
    order: str
    texture: str
    background: str
    camera: str

    @property
    def caption(self) -> str:
        shown = f" {self.order} ".join(map(str, self.things))
        return f"{shown} on a {self.texture} {self.background} background while the camera {self.camera}"


def simpler(scene: Scene) -> Scene:
    """The same scene with its first object alone."""
    return replace(scene, things=scene.things[:1])


def bare(scene: Scene) -> Scene:
    """The same scene without its objects and its light; of equal random numbers equal pictures, but for them."""
    return replace(scene, things=())


def changed(scene: Scene, attribute: str) -> Scene:
    """The same scene but for one attribute, of its first object where objects have it."""
    values = list({"color": COLORS, "shape": SHAPES, "direction": DIRECTIONS, "camera": CAMERAS}[attribute])
    if attribute == "camera":
        return replace(scene, camera=following(values, scene.camera))
    first, second = scene.things
    others = [value for value in values if not (attribute == "color" and value == second.color)]
    other = following(others, getattr(first, attribute))
    return replace(scene, things=(replace(first, **{attribute: other}), second))


def vocabulary() -> list[str]:
    """Every word a caption can hold, in a fixed order (the tokenizer's vocabulary)."""
    fixed = ["a", "moving", "on", "background", "while", "the", "camera"]
    groups = (COLORS, SHAPES, DIRECTIONS, ORDERS, TEXTURES, BACKGROUNDS, CAMERAS)
    words = [word for group in groups for text in group for word in text.split()]
    return list(dict.fromkeys([*fixed, *words]))


def is_held_out(scene: Scene) -> bool:
    """Whether the scene's caption is one of those that training never sees."""
    return zlib.crc32(scene.caption.encode()) % HELD_OUT == 0


def sample_scenes(count: int, generator: torch.Generator, held_out: bool = False) -> list[Scene]:
    """Draw scenes from the captions for training, or from those held out."""

    def pick(values: Collection[str]) -> str:
        return list(values)[int(torch.randint(0, len(values), (), generator=generator))]

    scenes: list[Scene] = []
    while len(scenes) < count:
        things = tuple(Thing(pick(COLORS), pick(SHAPES), pick(DIRECTIONS)) for _ in range(2))
        scene = Scene((things[0], things[1]), pick(ORDERS), pick(TEXTURES), pick(BACKGROUNDS), pick(CAMERAS))
        if things[0].color != things[1].color and is_held_out(scene) == held_out:
            scenes.append(scene)
    return scenes


def parse_caption(caption: str) -> Scene:
    """The scene a caption names.

    Raises:
        ValueError: the caption is not of the world's form; the message shows one that is.
    """
    found = _CAPTION.fullmatch(caption)
    if found is not None and found["color1"] != found["color2"]:
        first, second = (Thing(found[f"color{n}"], found[f"shape{n}"], found[f"to{n}"]) for n in (1, 2))
        return Scene((first, second), found["order"], found["texture"], found["background"], found["camera"])
    things = Thing("red", "circle", "left"), Thing("blue", "bar", "up")
    example = Scene(things, "in front of", "striped", "teal", "pans rightward").caption
    raise ValueError(f"'{caption}' is not a caption of the embedded world of scenes; one is '{example}'.")


def _way(scene: Scene) -> int:
    """Pixels that the camera goes to the right in a frame."""
    return CAMERAS[scene.camera] * CAMERA_SPEED


def _beam(scene: Scene, times: torch.Tensor, u: float) -> torch.Tensor:
    """(frames, 3, 1, SIZE): what the light adds to the background; half-way through it is about the middle.

    Before nothing it is out: like the objects it is where the caption puts it.
    """
    if not scene.things:
        return torch.zeros(len(times), 3, 1, SIZE)
    middle = SIZE / 2 + 8 * u - 4 - _way(scene) * (times - (FRAMES - 1) / 2)
    away = torch.arange(SIZE) + 0.5 - middle[:, None, None, None]
    return torch.tensor(BEAM)[:, None, None] * torch.exp(-0.5 * (away / BEAM_WIDTH).square())


def _pattern(scene: Scene, times: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(frames, 1, SIZE, SIZE): what the texture adds to the background."""
    axis = torch.arange(SIZE) + 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    way = _way(scene)
    phase = torch.rand((), generator=generator) * PERIOD
    x = x + phase + way * times[:, None, None]
    if scene.texture == "striped":
        return CONTRAST * torch.sin(2 * math.pi * x / PERIOD)[:, None]
    if scene.texture == "checkered":
        both = torch.sin(2 * math.pi * x / PERIOD) * torch.sin(2 * math.pi * y / PERIOD)
        return CONTRAST * (4 * both).clamp(-1, 1)[:, None]
    if scene.texture == "speckled":
        reach = CAMERA_SPEED * (FRAMES - 1)
        cells = torch.rand(1, 1, SIZE // GRAIN, (SIZE + reach) // GRAIN + 1, generator=generator) * 2 - 1
        canvas = F.interpolate(cells, size=(SIZE, cells.shape[-1] * GRAIN), mode="bicubic")[0, 0]
        starts = [int(way * time) % (reach + 1) if way >= 0 else reach + int(way * time) for time in times]
        return GRAININESS * torch.stack([canvas[:, start : start + SIZE] for start in starts])[:, None]
    return torch.zeros(len(times), 1, SIZE, SIZE)


def _paths(scene: Scene, times: torch.Tensor, u: list[float]) -> list[torch.Tensor]:
    """(frames, 2) centres (x, y) of all objects; they meet in the middle of the picture, or move side by side."""
    side_by_side = len({thing.direction for thing in scene.things}) < len(scene.things)
    apart = 10.0 if u[4] < 0.5 else -10.0
    paths = []
    for index, thing in enumerate(scene.things):
        direction = torch.tensor(DIRECTIONS[thing.direction], dtype=torch.float32)
        along, across = 6 * u[2 * index] - 3, 8 * u[2 * index + 1] - 4
        if side_by_side:
            across = across / 4 + (apart if index else -apart)
        travel = SPEED * (times - MEETING) + along
        paths.append(SIZE / 2 + travel[:, None] * direction + across * direction.flip(0).abs())
    return paths


def render(scene: Scene, generator: torch.Generator, times: Sequence[float] | None = None) -> torch.Tensor:
    """Render one video.

    Args:
        scene: what to show.
        generator: source of positions, sizes, brightness and grain.
        times: of the pictures wanted, in frames from the first one; all whole frames by default.

    Returns:
        (times, 3, SIZE, SIZE) in [-1, 1].
    """
    u = torch.rand(9, generator=generator).tolist()
    moments = torch.tensor(range(FRAMES) if times is None else times, dtype=torch.float32)
    axis = torch.arange(SIZE) + 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    shade = (0.9 + 0.2 * u[5]) * (1.12 - 0.24 * y / SIZE)
    base = torch.tensor(BACKGROUNDS[scene.background])[:, None, None] * shade
    video = (base + _beam(scene, moments, u[8]) + _pattern(scene, moments, generator)).clamp(0, 1)
    radii = (9.0 + 1.5 * u[6], 9.0 + 1.5 * u[7])
    drawn = list(zip(scene.things, _paths(scene, moments, u), radii, strict=False))
    for thing, path, radius in drawn if scene.order == "behind" else drawn[::-1]:
        inside = 0.5 - signed_distance(thing.shape, x - path[:, :1, None], y - path[:, 1:, None], radius)
        alpha = inside.clamp(0, 1)[:, None]
        video = video * (1 - alpha) + torch.tensor(COLORS[thing.color])[:, None, None] * alpha
    return video * 2 - 1
