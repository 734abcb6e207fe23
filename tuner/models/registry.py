"""The models the tuner knows: where their weights come from, what they are asked to generate, on which prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import CogVideoXPipeline, DiffusionPipeline

import tuner.embedded.codec  # noqa: F401  (diffusers loads components only from modules already imported)
from tuner.embedded.checker import attributes_right
from tuner.embedded.world import parse_caption, sample_scenes
from tuner.errors import UsageError

EMBEDDED = Path(__file__).parent / "embedded"


@dataclass(frozen=True)
class Workload:
    """What one generation is: sizes in pixels and frames, the number of denoising steps, guidance."""

    frames: int
    height: int
    width: int
    steps: int
    guidance_scale: float
    max_sequence_length: int

    def call_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the pipeline's call, without prompt and generator."""
        return {
            "num_frames": self.frames,
            "height": self.height,
            "width": self.width,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "max_sequence_length": self.max_sequence_length,
        }

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class ModelEntry:
    """One model of the registry.

    Attributes:
        name: what `--model` takes.
        source: folder of the packaged pipeline.
        pipeline: the diffusers pipeline class that loads it.
        workload: what it is tuned for.
        search_space: file name in `search_spaces/`.
        tuning_prompts: prompts that profiling and verification may use.
        held_out_prompts: prompts that only certification uses.
        attributes: whether a video (frames, 3, height, width) in [0, 1] shows what its prompt says, by attribute;
            None for models without a checker.
    """

    name: str
    source: Path
    pipeline: type[DiffusionPipeline]
    workload: Workload
    search_space: str
    tuning_prompts: Callable[[int], list[str]]
    held_out_prompts: Callable[[int], list[str]]
    attributes: Callable[[torch.Tensor, str], dict[str, bool]] | None


def _captions(held_out: bool) -> Callable[[int], list[str]]:
    def prompts(count: int) -> list[str]:
        generator = torch.Generator().manual_seed(20_000 + held_out)
        return [scene.caption for scene in sample_scenes(count, generator, held_out)]

    return prompts


def _world_attributes(video: torch.Tensor, prompt: str) -> dict[str, bool]:
    return attributes_right(video, parse_caption(prompt))


REGISTRY: dict[str, ModelEntry] = {
    entry.name: entry
    for entry in [
        ModelEntry(
            name="tiny-cogvideox",
            source=EMBEDDED / "tiny-cogvideox",
            pipeline=CogVideoXPipeline,
            workload=Workload(frames=12, height=64, width=64, steps=30, guidance_scale=1.0, max_sequence_length=16),
            search_space="tiny-cogvideox.yaml",
            tuning_prompts=_captions(held_out=False),
            held_out_prompts=_captions(held_out=True),
            attributes=_world_attributes,
        ),
    ]
}


def find_model(name: str) -> ModelEntry:
    """The registry's entry.

    Raises:
        UsageError: there is none; the message lists the names there are.
    """
    if name not in REGISTRY:
        raise UsageError(f"There is no model '{name}'; choose one of {', '.join(sorted(REGISTRY))}.")
    return REGISTRY[name]


def load_pipeline(name: str, device: str = "cpu") -> DiffusionPipeline:
    """Load a model of the registry, in float32, ready to generate.

    Raises:
        UsageError: there is no such model, its files are missing, or the device is not there.
    """
    entry = find_model(name)
    if not (entry.source / "model_index.json").is_file():
        raise UsageError(f"The files of {name} are missing from this installation ({entry.source.name}); reinstall it.")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"Device '{device}' was asked for, but torch finds no GPU here; use --device cpu.")
    with _quiet_loading():
        pipe = entry.pipeline.from_pretrained(entry.source).to(device, torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """No progress bars for a model of a few megabytes, and no warning that its codec is not CogVideoX's own VAE."""
    loggers = (diffusers.utils.logging, transformers.utils.logging)
    levels = [logger.get_verbosity() for logger in loggers]
    for logger in loggers:
        logger.set_verbosity_error()
        logger.disable_progress_bar()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.set_verbosity(level)
            logger.enable_progress_bar()
