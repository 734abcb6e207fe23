"""The worlds that embedded models are trained on, by what training and checking need of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tuner.embedded import checker, scenes, scenes_checker, world


@dataclass(frozen=True)
class World:
    """Captioned videos that are rendered on the fly.

    Attributes:
        module: where it is described.
        form: of its captions, for people.
        size, frames: pixels of a side, and frames of a video.
        words: of all captions.
        sample: (count, generator, held out) gives scenes, each with its `caption`.
        render: (scene, generator, times) gives (times, 3, size, size) in [-1, 1]; times in frames.
        is_held_out: whether training never sees a scene.
        simpler: a scene that is easier to learn, for the first lessons; the same one where there is none.
        bare: the same scene without the objects that its caption tells of, given equal random numbers; the same one
            where training need not know where they are.
        parse: the scene that a caption names.
        changed: (scene, attribute) gives the same scene but for one of the attributes that are checked.
        attributes_right: which attributes a video (frames, 3, size, size) in [0, 1] shows as its scene says.
        bars: the share of held-out captions that must have each right.
        unevenness: of the background of a video (frames, 3, size, size) in [0, 1], in grey levels of 255, small where
            the caption asks for a plain one; None where plain ones are not even either.
    """

    module: str
    form: str
    size: int
    frames: int
    words: tuple[str, ...]
    sample: Callable[[int, torch.Generator, bool], list[Any]]
    render: Callable[[Any, torch.Generator, Sequence[float]], torch.Tensor]
    is_held_out: Callable[[Any], bool]
    simpler: Callable[[Any], Any]
    bare: Callable[[Any], Any]
    parse: Callable[[str], Any]
    changed: Callable[[Any, str], Any]
    attributes_right: Callable[[torch.Tensor, Any], dict[str, bool]]
    bars: Mapping[str, float]
    unevenness: Callable[[torch.Tensor], float] | None = None


OBJECT = World(
    module="tuner/embedded/world.py",
    form="a <color> <shape> moving <slowly|quickly> <direction> on a <texture> <background> background",
    size=world.SIZE,
    frames=world.FRAMES,
    words=tuple(world.vocabulary()),
    sample=world.sample_scenes,
    render=world.render,
    is_held_out=world.is_held_out,
    simpler=lambda scene: scene,
    bare=lambda scene: scene,
    parse=world.parse_caption,
    changed=world.changed,
    attributes_right=checker.attributes_right,
    bars={"color": 0.95, "direction": 0.95, "shape": 0.90},
    unevenness=checker.unevenness,
)
SCENES = World(
    module="tuner/embedded/scenes.py",
    form=(
        "a <color> <shape> moving <direction> <in front of|behind> a <color> <shape> moving <direction> "
        "on a <texture> <background> background while the camera <stands still|pans leftward|pans rightward>"
    ),
    size=world.SIZE,
    frames=scenes.FRAMES,
    words=tuple(scenes.vocabulary()),
    sample=scenes.sample_scenes,
    render=scenes.render,
    is_held_out=scenes.is_held_out,
    simpler=scenes.simpler,
    bare=scenes.bare,
    parse=scenes.parse_caption,
    changed=scenes.changed,
    attributes_right=scenes_checker.attributes_right,
    bars={"color": 0.95, "direction": 0.95, "shape": 0.90, "camera": 0.90},
)
