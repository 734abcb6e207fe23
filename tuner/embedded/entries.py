"""What the registry says of the embedded models; `tuner/models/registry.py` finds it as an entry point."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import CogVideoXPipeline, DiffusionPipeline, HunyuanVideoPipeline, MochiPipeline, WanPipeline

# diffusers loads components only from modules already imported
import tuner.embedded.codec
import tuner.embedded.sampler  # noqa: F401
from tuner.embedded.worlds import OBJECT, SCENES, World
from tuner.errors import UsageError
from tuner.models.entry import ModelEntry, VideoSizes, Workload
from tuner.models.prompts import Prompts
from tuner.models.weights import PackagedWeights

CAPTION_SEED = 20_000
OVERSAMPLING = 8  # captions may come twice


def captions(world: World, held_out: bool) -> Prompts:
    """Different captions of a procedural world, the first so many of a long list.

    Args:
        world: whose.
        held_out: captions that were never trained on, instead of others.
    """

    def sampled(count: int) -> list[str]:
        generator = torch.Generator().manual_seed(CAPTION_SEED + held_out)
        scenes = world.sample(OVERSAMPLING * count, generator, held_out)
        found = list(dict.fromkeys(scene.caption for scene in scenes))[:count]
        if len(found) < count:
            raise UsageError(f"{count} prompts were asked for, but the world has fewer to tell apart; ask for fewer.")
        return found

    return sampled


def shown_attributes(world: World, every: int = 1, enlarged: int = 1) -> Callable[[torch.Tensor, str], dict[str, bool]]:
    """Which attributes of its caption a video shows.

    Args:
        world: of the captions.
        every: frames of the video for one of the world.
        enlarged: how many times its pictures are.

    Returns:
        Judges a video (frames, 3, height, width) in [0, 1] by its caption; raises ValueError where it is no caption.
    """

    def shown(video: torch.Tensor, prompt: str) -> dict[str, bool]:
        pictures = F.avg_pool2d(video[::every], enlarged) if enlarged > 1 else video[::every]
        return world.attributes_right(pictures, world.parse(prompt))

    return shown


def _entry(
    name: str,
    pipeline: type[DiffusionPipeline],
    workload: Workload,
    sizes: VideoSizes,
    world: World = OBJECT,
    every: int = 1,
    enlarged: int = 1,
    fps: int = ModelEntry.fps,
    like: str | None = None,
) -> ModelEntry:
    """A model of a world; its weights are called as it is, and so is its search space where it is not `like` another's.

    See `shown_attributes` for the rest.
    """
    return ModelEntry(
        name=name,
        weights=PackagedWeights(Path(__file__).parent / name),
        pipeline=pipeline,
        workload=workload,
        search_space=f"{like or name}.yaml",
        tuning_prompts=captions(world, held_out=False),
        held_out_prompts=captions(world, held_out=True),
        attributes=shown_attributes(world, every, enlarged),
        check_prompt=world.parse,
        sizes=sizes,
        fps=fps,
    )


ENTRIES = (
    _entry(
        "tiny-cogvideox",
        CogVideoXPipeline,
        Workload(frames=12, height=64, width=64, steps=30, guidance_scale=1.0, max_sequence_length=16),
        VideoSizes(sides=None, token=4),  # its positions are learned
    ),
    _entry(
        "tiny-wan",
        WanPipeline,
        Workload(frames=23, height=64, width=64, steps=20, guidance_scale=1.5, max_sequence_length=16),
        VideoSizes(sides=None, frames=2, token=4),  # trained on no others
        every=2,
        fps=16,
    ),
    _entry(
        "tiny-mochi",
        MochiPipeline,
        Workload(frames=67, height=256, width=256, steps=20, guidance_scale=4.0, max_sequence_length=16),
        VideoSizes(sides=None, frames=6, token=16),  # trained on no others
        every=6,
        enlarged=4,
        fps=48,
    ),
    _entry(
        "tiny-hunyuanvideo",
        HunyuanVideoPipeline,
        Workload(
            frames=23,
            height=64,
            width=64,
            steps=20,
            guidance_scale=6.0,
            max_sequence_length=24,
            true_cfg_scale=2.0,
        ),
        VideoSizes(sides=None, frames=2, token=4),  # trained on no others
        every=2,
        fps=16,
    ),
    _entry(
        "tiny-hunyuanvideo-scenes",
        HunyuanVideoPipeline,
        Workload(
            frames=23,
            height=64,
            width=64,
            steps=16,
            guidance_scale=6.0,
            max_sequence_length=32,
            true_cfg_scale=2.0,
        ),
        VideoSizes(sides=None, frames=2, token=4),  # trained on no others
        world=SCENES,
        every=2,
        fps=16,
        like="tiny-hunyuanvideo",
    ),
)
