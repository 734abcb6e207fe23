"""A lossless codec with the surface that diffusers' pipelines expect of their VAEs."""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import nn

CHANNELS = 12  # of a frame's latents: three colours of 2x2 pixels


class SpaceToDepthCodec(ModelMixin, ConfigMixin):
    """Folds every 2x2 block of pixels into channels, and back; nothing is learned and nothing is lost.

    With a temporal compression of t a latent holds t frames, but the first one, which holds the first frame alone, so
    that n latents are t (n - 1) + 1 frames. Latents are (batch, 12 t, n, height / 2, width / 2). The scale factors of
    pipelines follow from the configuration: CogVideoX's from `block_out_channels` and `temporal_compression_ratio`,
    HunyuanVideo's from the two compression ratios, Wan's from `scale_factor_spatial` and `scale_factor_temporal`, whose
    latents are also scaled by mean and deviation.
    Mochi's pipeline has factors of its own, so that pictures are enlarged, and held for some frames, but the first one;
    it scales by mean and deviation where there are any, of 12 channels only.
    """

    @register_to_config
    def __init__(
        self,
        block_out_channels: tuple[int, ...] = (1, 1),
        temporal_compression_ratio: int = 1,
        latent_channels: int = CHANNELS,
        scaling_factor: float = 1.0,
        invert_scale_latents: bool = False,
        scale_factor_spatial: int = 2,
        scale_factor_temporal: int = 1,
        z_dim: int = CHANNELS,
        latents_mean: tuple[float, ...] | None = (0.0,) * CHANNELS,
        latents_std: tuple[float, ...] | None = (1.0,) * CHANNELS,
        enlarged: int = 1,
        held: int = 1,
    ) -> None:
        super().__init__()
        self.spatial_compression_ratio, self.temporal_compression_ratio = 2, temporal_compression_ratio
        self.placeholder = nn.Parameter(torch.zeros(1), requires_grad=False)  # gives the module a dtype and a device

    @classmethod
    def over_time(cls, ratio: int, scaled: bool = True, enlarged: int = 1, held: int = 1) -> SpaceToDepthCodec:
        """One whose latents hold so many frames each.

        Args:
            ratio: frames of a latent.
            scaled: whether there are a mean and a deviation that pipelines scale by.
            enlarged, held: how many times pictures are enlarged, and for how many frames held.
        """
        channels = CHANNELS * ratio
        return cls(
            temporal_compression_ratio=ratio,
            latent_channels=channels,
            scale_factor_temporal=ratio,
            z_dim=channels,
            latents_mean=(0.0,) * channels if scaled else None,
            latents_std=(1.0,) * channels if scaled else None,
            enlarged=enlarged,
            held=held,
        )

    def encode(self, video: torch.Tensor) -> torch.Tensor:
        """(batch, 3, frames, height, width) to latents; in the first one the first frame stands for those before it."""
        ratio, enlarged, held = self._factors()
        video = nn.functional.avg_pool3d(video[:, :, ::held], (1, enlarged, enlarged))
        folded = nn.functional.pixel_unshuffle(video.transpose(1, 2), 2)  # (batch, frames, 12, h, w)
        led = torch.cat([*[folded[:, :1]] * (ratio - 1), folded], dim=1)
        return led.unflatten(1, (-1, ratio)).flatten(2, 3).transpose(1, 2)

    def decode(self, z: torch.Tensor, return_dict: bool = True) -> DecoderOutput | tuple[torch.Tensor]:
        """Latents to (batch, 3, frames, height, width)."""
        ratio, enlarged, held = self._factors()
        frames = z.transpose(1, 2).unflatten(2, (ratio, -1)).flatten(1, 2)[:, ratio - 1 :]
        video = nn.functional.pixel_shuffle(frames, 2).transpose(1, 2)
        if enlarged * held > 1:
            video = video.repeat_interleave(enlarged, -1).repeat_interleave(enlarged, -2)
            video = torch.cat([video[:, :, :1], video[:, :, 1:].repeat_interleave(held, 2)], dim=2)
        return DecoderOutput(sample=video) if return_dict else (video,)

    def _factors(self) -> tuple[int, int, int]:
        config = self.config
        return int(config.temporal_compression_ratio), int(config.enlarged), int(config.held)
