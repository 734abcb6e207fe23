"""What an embedded model is while it is trained: everything that is learned, as one module."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from torch import nn

from tuner.embedded.worlds import World

STRONG_NOISE = 0.8  # noise levels from here on are strong
WITHOUT_HALF = ("DEFAULT", "AVX2")  # instruction sets that torch tells apart and that do not multiply bfloat16
SEEN, NEAR = 0.05, 2  # difference of a latent that shows something, and latents around such ones that count as well


@dataclass(frozen=True)
class Stage:
    """A part of the training.

    Attributes:
        steps: of the optimiser.
        latents: of a clip.
        batch: clips a step.
        noisy: share of the clips that is under strong noise.
        sharp: how many times as much an error may count under little noise as under strong noise, for models that match
            flows. At 1 what is drawn and where is learned first; details come with more.
        simple: share of the clips that show simpler scenes, where the world has such.
        focus: how many times as much an error counts at and around what the caption tells of, where the world knows
            where that is. Before textures that nobody can foresee, little else would be learned.
    """

    steps: int
    latents: int
    batch: int
    noisy: float = 0.5
    sharp: float = 1.0
    simple: float = 0.0
    focus: float = 1.0


class Denoiser(nn.Module, abc.ABC):
    """Text encoders and transformer in one, so that one optimiser and one average cover all.

    Attributes:
        name: of the packaged model.
        world: what it is trained on.
        begins_as: packaged model of the same architecture whose weights it starts with; None for random ones.
        ratio: frames that a latent holds; the first one holds the first frame alone.
        enlarged, held: how many times pictures are enlarged, and for how many frames all but the first are held.
        stages: of its training.
        steps: denoising steps of a generation.
        few_steps: so many do as well; None where they do not.
        guidance: scale of its guidance, 1 for none.
        null_share: of the captions that training leaves out, where guidance compares with none.
        text_tokens: that a caption may have.
        about: what it is made of, for its card.
        transformer: the denoiser.
    """

    name: ClassVar[str]
    world: ClassVar[World]
    begins_as: ClassVar[str | None] = None
    ratio: ClassVar[int] = 1
    enlarged: ClassVar[int] = 1
    held: ClassVar[int] = 1
    stages: ClassVar[tuple[Stage, ...]]
    steps: ClassVar[int]
    few_steps: ClassVar[int | None] = None
    guidance: ClassVar[float] = 1.0
    null_share: ClassVar[float] = 0.0
    text_tokens: ClassVar[int]
    about: ClassVar[str]
    transformer: Any

    @abc.abstractmethod
    def blocks(self) -> Iterator[nn.Module]:
        """The transformer's blocks."""

    @abc.abstractmethod
    def errors(
        self, clean: torch.Tensor, noise: torch.Tensor, level: torch.Tensor, captions: list[str], latents: list[int]
    ) -> torch.Tensor:
        """(batch, latents, channels, height, width): squared errors of the predicted clean latents.

        Args:
            clean, noise: (batch, latents, channels, height, width).
            level: (batch,) noise levels in [0, 1), before the model's own shift.
            captions: of the batch.
            latents: which of the videos' latents these are, ascending.
        """

    @abc.abstractmethod
    def weights(self, level: torch.Tensor, stage: Stage) -> torch.Tensor:
        """(batch,) what errors under noise of these levels weigh in a stage of the training."""

    def loss(
        self,
        clean: torch.Tensor,
        captions: list[str],
        latents: list[int],
        stage: Stage,
        generator: torch.Generator,
        focus: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """What a batch gets wrong under random noise, weighted; all random numbers come from a generator on the CPU.

        Args:
            clean, captions, latents: see `errors`.
            stage: of the training.
            generator: see above.
            focus: see `focus`; None where all errors count alike.
        """
        level = noise_levels(len(captions), stage.noisy, generator)
        noise = torch.randn(clean.shape, generator=generator)
        if self.null_share:
            left_out = torch.rand(len(captions), generator=generator) < self.null_share
            captions = ["" if none else caption for caption, none in zip(captions, left_out.tolist(), strict=True)]
        errors = self.errors(clean, noise, level, captions, latents)
        if focus is not None:
            errors = errors * focus.to(errors.device)
        return (self.weights(level, stage).to(errors.device) * errors.mean((1, 2, 3, 4))).mean()

    def focus(
        self, clean: torch.Tensor, scenes: Sequence[Any], latents: Sequence[int], times: float, state: torch.Tensor
    ) -> torch.Tensor:
        """(batch, latents, 1, height, width) weights of errors, mean 1: more at what captions tell of.

        Args:
            clean: the scenes' latents.
            scenes, latents: see `render`.
            times: how many times as much.
            state: that the generator of `clean` began with.
        """
        generator = torch.Generator()
        generator.set_state(state)
        bare = self.render([self.world.bare(scene) for scene in scenes], latents, generator)
        shown = ((clean - bare).abs().amax(2, keepdim=True) > SEEN).float().flatten(0, 1)
        near = nn.functional.max_pool2d(shown, 2 * NEAR + 1, stride=1, padding=NEAR).unflatten(0, clean.shape[:2])
        weights = 1 + (times - 1) * near
        return weights / weights.mean()

    @abc.abstractmethod
    def pipeline(self) -> DiffusionPipeline:
        """The real pipeline around the trained parts."""

    @classmethod
    def video(cls) -> tuple[int, int]:
        """Frames of a generated video, and pixels of its sides."""
        return (cls.world.frames - 1) * cls.ratio * cls.held + 1, cls.world.size * cls.enlarged

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.parameters()).device

    def matrices(self) -> list[nn.Parameter]:
        """The blocks' matrices but those of modulation, which Muon trains."""
        return [
            p for block in self.blocks() for name, p in block.named_parameters() if p.ndim == 2 and "norm" not in name
        ]

    def render(self, scenes: Sequence[Any], latents: Sequence[int], generator: torch.Generator) -> torch.Tensor:
        """(batch, latents, channels, height, width): these latents of the scenes' videos, without noise."""
        r = self.ratio
        times = [max(0.0, latent - 1 + (i + 1) / r) for latent in latents for i in range(r)]
        video = torch.stack([self.world.render(scene, generator, times) for scene in scenes])
        return nn.functional.pixel_unshuffle(video, 2).unflatten(1, (-1, r)).flatten(2, 3)


def in_half(device: torch.device) -> torch.autocast:
    """Computes in bfloat16, but where the processor has no instructions for it.

    There a training step takes three times as long with it (11.9 s instead of 3.8 s on an AMD EPYC with AVX2).
    """
    slow = device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in WITHOUT_HALF
    return torch.autocast(device.type, torch.bfloat16, enabled=not slow)


def noise_levels(count: int, noisy: float, generator: torch.Generator) -> torch.Tensor:
    """(count,) noise levels in [0, 1): a share of them strong, the others from anywhere."""
    anywhere, strong = torch.rand(2, count, generator=generator)
    chosen = torch.rand(count, generator=generator) < noisy
    return torch.where(chosen, STRONG_NOISE + (1 - STRONG_NOISE) * strong, anywhere)
