"""What the registry says of one model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin

from asymrnr.partition import Grid
from tuner.models.images import Kind
from tuner.models.weights import HubWeights, PackagedWeights


@dataclass(frozen=True)
class Workload:
    """What one generation is: sizes in pixels and frames, the number of denoising steps, guidance.

    Attributes:
        strength: of models that start from a video, how much of the noise is added to it, up to 1; what they do with
            the rest of the sampler's steps is nothing, so that `steps` are those that are left.
        true_cfg_scale: of classifier-free guidance against an empty prompt, for models that are told a guidance scale
            besides (`guidance_scale`); None leaves it out.
    """

    frames: int
    height: int
    width: int
    steps: int
    guidance_scale: float
    max_sequence_length: int
    strength: float | None = None
    true_cfg_scale: float | None = None

    def call_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of a pipeline's call, without prompt and generator; not every pipeline takes all."""
        return {
            "num_frames": self.frames,
            "height": self.height,
            "width": self.width,
            "num_inference_steps": self.steps if self.strength is None else self._steps_of(self.strength),
            "guidance_scale": self.guidance_scale,
            "max_sequence_length": self.max_sequence_length,
            **({} if self.strength is None else {"strength": self.strength}),
            **({} if self.true_cfg_scale is None else {"true_cfg_scale": self.true_cfg_scale, "negative_prompt": ""}),
        }

    def _steps_of(self, strength: float) -> int:
        """The sampler's steps of which diffusers' pipelines leave `steps`: they round down."""
        return next(n for n in count(self.steps) if int(n * strength) >= self.steps)

    def as_dict(self) -> dict[str, Any]:
        """The fields; without what is not used."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def __str__(self) -> str:
        return f"{self.frames} frames {self.height}x{self.width}, {self.steps} steps"


@dataclass(frozen=True)
class VideoSizes:
    """What sizes a model's videos can have besides those of its workload.

    Attributes:
        sides: heights and widths are multiples of so many pixels; None where no others will do.
        frames: numbers of frames are one more than a multiple of this.
        most_frames: the highest number of frames; None where there is no limit.
        token: pixels of a side that a token covers, where they are not `sides`.
        frames_apart: tokens attend to those of their own frame alone.
    """

    sides: int | None = 1
    frames: int = 1
    most_frames: int | None = None
    token: int | None = None
    frames_apart: bool = False

    def grid(self, workload: Workload) -> Grid | None:
        """Tokens (frames, height, width) of a video, largest where there are several levels; None where not known."""
        side = self.token or self.sides
        if side is None or side == 1:
            return None
        return (workload.frames - 1) // self.frames + 1, workload.height // side, workload.width // side


@dataclass(frozen=True)
class Scheduler:
    """The sampler a model is tuned with.

    Attributes:
        cls: its diffusers class.
        settings: what differs from the configuration saved with the model.
    """

    cls: type[SchedulerMixin]
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelEntry:
    """One model of the registry.

    Attributes:
        name: what `--model` takes.
        weights: where they come from.
        pipeline: the diffusers pipeline class that loads them.
        workload: what it is tuned for.
        search_space: file name in `search_spaces/`; for a model of another package, the absolute path of its file.
        tuning_prompts: prompts that profiling and verification may use.
        held_out_prompts: prompts that only certification uses; those of a user may be fewer than asked for.
        attributes: whether a video (frames, 3, height, width) in [0, 1] shows what its prompt says, by attribute;
            None for models without a checker.
        check_prompt: raises ValueError, with one sentence, for prompts that `attributes` cannot judge.
        sizes: what videos may be asked for; by default any.
        dtype: data type of the weights.
        vae_dtype: data type of the decoder where it is another one.
        scheduler: the sampler; None takes the one saved with the model.
        components: parts that are in repositories of their own, by their name in the pipeline.
        tiled_decoding: decode in tiles, for videos whose decoding would not fit in memory.
        fps: frames per second the model was trained on, for videos written to disk.
        images: the file of the picture that each prompt's video starts from, for models that continue a picture; empty
            where a user has to bring them. None for models that start from noise alone.
        videos: the same for models that start from a video.
        saved_as: pipeline whose folders hold the same parts, where that is another one.
    """

    name: str
    weights: PackagedWeights | HubWeights
    pipeline: type[DiffusionPipeline]
    workload: Workload
    search_space: str
    tuning_prompts: Callable[[int], list[str]]
    held_out_prompts: Callable[[int], list[str]]
    attributes: Callable[[torch.Tensor, str], dict[str, bool]] | None = None
    check_prompt: Callable[[str], object] | None = None
    sizes: VideoSizes = VideoSizes()
    dtype: torch.dtype = torch.float32
    vae_dtype: torch.dtype | None = None
    scheduler: Scheduler | None = None
    components: Mapping[str, tuple[type[ModelMixin], HubWeights]] = field(default_factory=dict)
    tiled_decoding: bool = False
    fps: int = 8
    images: Mapping[str, Path] | None = None
    videos: Mapping[str, Path] | None = None
    saved_as: type[DiffusionPipeline] | None = None

    @property
    def source(self) -> Path:
        """The folder its weights are loaded from; for those of the hub, where the cache keeps them once downloaded."""
        return self.weights.folder

    @property
    def starts_from(self) -> Kind | None:
        """What its videos start from beside noise."""
        if self.videos is not None:
            return "video"
        return None if self.images is None else "picture"

    @property
    def files(self) -> Mapping[str, Path]:
        """What the video of each prompt starts from."""
        return self.videos or self.images or {}

    def with_files(self, files: Mapping[str, Path]) -> ModelEntry:
        """The same model with other pictures or videos to start from."""
        return replace(self, **{"videos" if self.starts_from == "video" else "images": files})  # type: ignore[arg-type]

    def with_workload(self, **changes: Any) -> ModelEntry:
        """The same model with other values of its workload."""
        return replace(self, workload=replace(self.workload, **changes))
