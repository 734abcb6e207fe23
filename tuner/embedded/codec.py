"""A lossless space-to-depth codec with the surface `CogVideoXPipeline` expects of its VAE."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import nn


class SpaceToDepthCodec(ModelMixin, ConfigMixin):
    """Folds every 2x2 block of pixels into channels, and back; nothing is learned and nothing is lost.

    Latents are (batch, 12, frames, height / 2, width / 2). `block_out_channels` and `temporal_compression_ratio` are
    what the pipeline derives its spatial (2) and temporal (1) scale factors from.
    """

    @register_to_config
    def __init__(
        self,
        block_out_channels: tuple[int, ...] = (1, 1),
        temporal_compression_ratio: int = 1,
        latent_channels: int = 12,
        scaling_factor: float = 1.0,
        invert_scale_latents: bool = False,
    ) -> None:
        super().__init__()
        self.placeholder = nn.Parameter(torch.zeros(1), requires_grad=False)  # gives the module a dtype and a device

    def encode(self, video: torch.Tensor) -> torch.Tensor:
        """(batch, 3, frames, height, width) to (batch, 12, frames, height / 2, width / 2)."""
        return nn.functional.pixel_unshuffle(video.transpose(1, 2), 2).transpose(1, 2)

    def decode(self, z: torch.Tensor, return_dict: bool = True) -> DecoderOutput | tuple[torch.Tensor]:
        """(batch, 12, frames, height, width) to (batch, 3, frames, 2 * height, 2 * width)."""
        video = nn.functional.pixel_shuffle(z.transpose(1, 2), 2).transpose(1, 2)
        return DecoderOutput(sample=video) if return_dict else (video,)
