"""Flow matching (Lipman et al. 2023; as in SD3, HunyuanVideo and Wan), with models that predict the clean video.

A token of these models has as many numbers as a third of their width: noise would fill it, and a clean video lies on
far less. So they predict the clean video (Li and He 2025). In the velocity an error weighs one over the squared noise
level, which teaches details first; what is shown, and where, is decided under strong noise. So the weight is limited,
and the limit raised towards the end (`Stage.sharp`).
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import nn

from asymrnr.install import replace_forward
from tuner.embedded.denoiser import Denoiser, Stage, in_half

Tables = tuple[torch.Tensor, ...]
# For models that know one object from another world, and objects before their backgrounds: from random weights and with
# all errors alike, neither directions nor shapes were learned in 2,800 steps. Which shape is which object's comes last.
# Single frames teach where the camera looks at which time; that it pans is learned anew of clips, of which those of
# half a video cost half as much and show the same motion.
STAGES_OF_SCENES = (
    Stage(2800, 1, 14, simple=0.25, focus=6),
    Stage(1400, 6, 2, noisy=0.4, sharp=3, focus=2),
    Stage(1300, 12, 1, noisy=0.4, sharp=10),
)


@contextmanager
def positions_of(
    rope: nn.Module, latents: list[int], total: int, whole: Callable[..., Tables], axis: int = 0
) -> Iterator[None]:
    """Let a rotary embedding give the positions of these latents instead of those of the first so many.

    Args:
        rope: the embedding; what it gives has the tokens of all latents along one axis.
        latents: which.
        total: latents of a whole video.
        whole: calls what the embedding does, given first, for a whole video.
        axis: see above.
    """

    def picked(table: torch.Tensor) -> torch.Tensor:
        chosen = torch.tensor(latents, device=table.device)
        return table.unflatten(axis, (total, -1)).index_select(axis, chosen).flatten(axis, axis + 1)

    undo = replace_forward(rope, lambda inner: lambda *a, **k: tuple(picked(table) for table in whole(inner, *a, **k)))
    try:
        yield
    finally:
        undo()


class FlowDenoiser(Denoiser):
    """See `Denoiser`; the loss is the squared error of the clean video, under a limited weight.

    Attributes:
        shift: of the noise levels, as the pipeline's scheduler shifts them (SD3, section 5.3.2).
    """

    shift: ClassVar[float]

    @abc.abstractmethod
    def predict(
        self, noised: torch.Tensor, sigma: torch.Tensor, captions: list[str], latents: list[int]
    ) -> torch.Tensor:
        """Predict the clean latents.

        Args:
            noised: (batch, latents, channels, height, width).
            sigma: (batch,) noise levels in [0, 1).
            captions, latents: see `Denoiser.loss`.
        """

    def errors(
        self, clean: torch.Tensor, noise: torch.Tensor, level: torch.Tensor, captions: list[str], latents: list[int]
    ) -> torch.Tensor:
        sigma, device = self._sigmas(level), self.device
        part = sigma.view(-1, 1, 1, 1, 1)
        noised = (1 - part) * clean + part * noise
        with in_half(device):
            predicted = self.predict(noised.to(device), sigma.to(device), captions, latents)
        return (predicted.float() - clean.to(device)).square()

    def weights(self, level: torch.Tensor, stage: Stage) -> torch.Tensor:
        return (1 / self._sigmas(level).square()).clamp(max=stage.sharp)

    def _sigmas(self, level: torch.Tensor) -> torch.Tensor:
        return self.shift * level / (1 + (self.shift - 1) * level)
