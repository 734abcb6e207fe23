"""`tiny-cogvideox`: CogVideoX's transformer, which predicts the clean video, behind its own pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from torch import nn
from transformers import T5Config, T5EncoderModel

from tuner.embedded.codec import CHANNELS, SpaceToDepthCodec
from tuner.embedded.denoiser import Denoiser, Stage, in_half
from tuner.embedded.text import T5_SIZES, TEXT_WIDTH, build_tokenizer, tokens_of
from tuner.embedded.worlds import OBJECT

HEADS, HEAD_DIM, BLOCKS = 2, 64, 8
LATENT, GRID = OBJECT.size // 2, OBJECT.size // 4
MAX_WEIGHT = 10.0


class CogVideoX(Denoiser):
    """See `Denoiser`; the loss is the squared error of the clean video under a clipped SNR weight."""

    name = "tiny-cogvideox"
    world = OBJECT
    # Where the object comes to lie is decided under strong noise and nowhere else: single frames there are cheap
    # lessons.
    stages = (
        Stage(2400, 1, 14),
        Stage(2400, 4, 3),
        Stage(3600, 12, 1, noisy=0.4),
        Stage(1200, 1, 14),
        Stage(900, 12, 1, noisy=0.4),
    )
    steps = 30
    text_tokens = 16
    about = (
        f"the real `CogVideoXTransformer3DModel` (RoPE, patch 2, {BLOCKS} blocks, {HEADS} heads of {HEAD_DIM}, "
        f"{OBJECT.frames * GRID * GRID:,} video tokens), a one-layer T5 encoder, a word-level tokenizer, "
        f"`CogVideoXDDIMScheduler` ({steps} steps, x-prediction, no guidance) and a lossless space-to-depth codec"
    )
    cos: torch.Tensor
    sin: torch.Tensor

    def __init__(self, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.tokenizer = build_tokenizer(self.world.words, self.text_tokens)
        sizes = {**T5_SIZES, "feed_forward_proj": "gated-gelu"}
        self.text_encoder = T5EncoderModel(T5Config(vocab_size=len(self.tokenizer), **sizes))
        self.transformer = _transformer(blocks, self.text_tokens)
        self.alphas = _scheduler().alphas_cumprod.float()
        cos, sin = _rotary_embedding()
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def blocks(self) -> Iterator[nn.Module]:
        return iter(self.transformer.transformer_blocks)

    def errors(
        self, clean: torch.Tensor, noise: torch.Tensor, level: torch.Tensor, captions: list[str], latents: list[int]
    ) -> torch.Tensor:
        timestep = self._timesteps(level)
        alpha = self.alphas[timestep].view(-1, 1, 1, 1, 1)
        noised = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
        device = self.device
        with in_half(device):
            predicted = self(noised.to(device), timestep.to(device), captions, latents)
        return (predicted.float() - clean.to(device)).square()

    def weights(self, level: torch.Tensor, stage: Stage) -> torch.Tensor:
        return (1 / (1 - self.alphas[self._timesteps(level)])).clamp(max=MAX_WEIGHT)

    def _timesteps(self, level: torch.Tensor) -> torch.Tensor:
        return (level * len(self.alphas)).long()

    def forward(
        self, noised: torch.Tensor, timestep: torch.Tensor, captions: list[str], frames: list[int]
    ) -> torch.Tensor:
        """Predict the clean latents of (batch, frames, 12, h, w)."""
        ids, _ = tokens_of(self.tokenizer, captions, self.text_tokens, noised.device)
        text = self.text_encoder(ids)[0]
        rotary = (self.cos[frames].flatten(0, 1), self.sin[frames].flatten(0, 1))
        with self._positions_of(frames):
            predicted: torch.Tensor = self.transformer(
                hidden_states=noised,
                encoder_hidden_states=text,
                timestep=timestep,
                image_rotary_emb=rotary,
                return_dict=False,
            )[0]
        return predicted

    def pipeline(self) -> CogVideoXPipeline:
        return CogVideoXPipeline(
            tokenizer=self.tokenizer,
            text_encoder=self.text_encoder,
            vae=SpaceToDepthCodec(),
            transformer=self.transformer,
            scheduler=_scheduler(),
        )

    @contextmanager
    def _positions_of(self, frames: list[int]) -> Iterator[None]:
        """Let the patch embedding see the positions of `frames` instead of those of the first len(frames)."""
        patch = self.transformer.patch_embed
        whole = patch.pos_embedding
        text, video = whole[:, : self.text_tokens], whole[:, self.text_tokens :]
        picked = video.view(self.world.frames, -1, video.shape[-1])[frames].flatten(0, 1)[None]
        patch.pos_embedding, patch.sample_frames = torch.cat([text, picked], 1), len(frames)
        try:
            yield
        finally:
            patch.pos_embedding, patch.sample_frames = whole, self.world.frames


def _transformer(blocks: int, text_tokens: int) -> CogVideoXTransformer3DModel:
    """The untrained denoiser; modulation and output start at zero, so that every block starts as the identity."""
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        time_embed_dim=64,
        text_embed_dim=TEXT_WIDTH,
        num_layers=blocks,
        sample_width=LATENT,
        sample_height=LATENT,
        sample_frames=OBJECT.frames,
        patch_size=2,
        temporal_compression_ratio=1,
        max_text_seq_length=text_tokens,
        spatial_interpolation_scale=1.0,
        use_rotary_positional_embeddings=True,
        use_learned_positional_embeddings=True,  # absolute positions besides RoPE, as in CogVideoX-5B-I2V
    )
    zeroed = [transformer.norm_out.linear, transformer.proj_out]
    for block in transformer.transformer_blocks:
        zeroed += [block.norm1.linear, block.norm2.linear]
    for layer in zeroed:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return transformer


def _scheduler() -> CogVideoXDDIMScheduler:
    """CogVideoX's own noise schedule; the model predicts the clean sample, so the last step leaves no noise behind."""
    return CogVideoXDDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=True,
        prediction_type="sample",
        rescale_betas_zero_snr=True,
        snr_shift_scale=3.0,
        timestep_spacing="trailing",
        num_train_timesteps=1000,
    )


def _rotary_embedding() -> tuple[torch.Tensor, torch.Tensor]:
    """The pipeline's rotary tables, each (frames, tokens per frame, head dim), so that frames can be picked."""
    cos, sin = get_3d_rotary_pos_embed(
        embed_dim=HEAD_DIM,
        crops_coords=((0, 0), (GRID, GRID)),
        grid_size=(GRID, GRID),
        temporal_size=OBJECT.frames,
    )
    return cos.view(OBJECT.frames, GRID * GRID, -1), sin.view(OBJECT.frames, GRID * GRID, -1)
