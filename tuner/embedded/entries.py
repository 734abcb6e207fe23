"""What the registry says of the embedded models; `tuner/models/registry.py` finds it as an entry point."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import CogVideoXPipeline

import tuner.embedded.codec  # noqa: F401  (diffusers loads components only from modules already imported)
from tuner.embedded.checker import attributes_right
from tuner.embedded.world import parse_caption, sample_scenes
from tuner.errors import UsageError
from tuner.models.entry import ModelEntry, VideoSizes, Workload
from tuner.models.prompts import Prompts
from tuner.models.weights import PackagedWeights

CAPTION_SEED = 20_000
OVERSAMPLING = 8  # captions may come twice


def captions(held_out: bool) -> Prompts:
    """Different captions of the procedural world (`world.py`), the first so many of a long list.

    Args:
        held_out: captions that were never trained on, instead of others.
    """

    def sampled(count: int) -> list[str]:
        generator = torch.Generator().manual_seed(CAPTION_SEED + held_out)
        scenes = sample_scenes(OVERSAMPLING * count, generator, held_out)
        found = list(dict.fromkeys(scene.caption for scene in scenes))[:count]
        if len(found) < count:
            raise UsageError(f"{count} prompts were asked for, but the world has fewer to tell apart; ask for fewer.")
        return found

    return sampled


def shown_attributes(video: torch.Tensor, prompt: str) -> dict[str, bool]:
    """Which attributes of its caption a video shows.

    Args:
        video: (frames, 3, height, width) in [0, 1].
        prompt: a caption of the world.

    Raises:
        ValueError: the prompt is no such caption.
    """
    return attributes_right(video, parse_caption(prompt))


ENTRIES = (
    ModelEntry(
        name="tiny-cogvideox",
        weights=PackagedWeights(Path(__file__).parent / "tiny-cogvideox"),
        pipeline=CogVideoXPipeline,
        workload=Workload(frames=12, height=64, width=64, steps=30, guidance_scale=1.0, max_sequence_length=16),
        search_space="tiny-cogvideox.yaml",
        tuning_prompts=captions(held_out=False),
        held_out_prompts=captions(held_out=True),
        attributes=shown_attributes,
        check_prompt=parse_caption,
        sizes=VideoSizes(sides=None, token=4),  # its positions are learned
    ),
)
