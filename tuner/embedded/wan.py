"""`tiny-wan`: Wan's transformer, with cross-attention to the text and guidance in two passes, behind its pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from diffusers import WanPipeline, WanTransformer3DModel
from torch import nn
from transformers import UMT5Config, UMT5EncoderModel

from tuner.embedded.codec import CHANNELS, SpaceToDepthCodec
from tuner.embedded.denoiser import Stage
from tuner.embedded.flow import FlowDenoiser, Tables, positions_of
from tuner.embedded.sampler import TIMESTEPS, clean_scheduler
from tuner.embedded.text import T5_SIZES, TEXT_WIDTH, build_tokenizer, tokens_of
from tuner.embedded.worlds import OBJECT

HEADS, HEAD_DIM, BLOCKS = 2, 64, 8
RATIO = 2
GRID = OBJECT.size // 4


class Wan(FlowDenoiser):
    """See `Denoiser`.

    With a guidance scale of 2 plain teal backgrounds got patterns that nobody asked for, and these change with all
    else: one and the same schedule for 1.3x had 30.4 dB before such a one, and 46.1 dB with 1.5.
    """

    name = "tiny-wan"
    world = OBJECT
    ratio = RATIO
    stages = (
        Stage(3000, 1, 14),
        Stage(2000, 4, 3),
        Stage(2500, 12, 1, noisy=0.4, sharp=10),
    )
    steps = 20
    guidance = 1.5
    null_share = 0.1
    text_tokens = 16
    shift = 3.0
    about = (
        f"the real `WanTransformer3DModel` (RoPE alone, patch 1x2x2, {BLOCKS} blocks, {HEADS} heads of {HEAD_DIM}, "
        f"{OBJECT.frames * GRID * GRID:,} video tokens, cross-attention to the text), a one-layer UMT5 encoder, a "
        f"word-level tokenizer, `UniPCMultistepScheduler` ({steps} steps of flow matching, guidance {guidance:g} in "
        "two passes) and a lossless codec that folds 2x2 pixels of two frames"
    )

    def __init__(self, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.tokenizer = build_tokenizer(self.world.words, self.text_tokens)
        self.text_encoder = UMT5EncoderModel(UMT5Config(vocab_size=len(self.tokenizer), **T5_SIZES))
        self.transformer = WanTransformer3DModel(
            num_attention_heads=HEADS,
            attention_head_dim=HEAD_DIM,
            patch_size=(1, 2, 2),
            in_channels=CHANNELS * RATIO,
            out_channels=CHANNELS * RATIO,
            text_dim=TEXT_WIDTH,
            freq_dim=64,
            ffn_dim=4 * HEADS * HEAD_DIM,
            num_layers=blocks,
            rope_max_seq_len=32,
        )
        nn.init.zeros_(self.transformer.proj_out.weight)
        nn.init.zeros_(self.transformer.proj_out.bias)

    def blocks(self) -> Iterator[nn.Module]:
        return iter(self.transformer.blocks)

    def predict(
        self, noised: torch.Tensor, sigma: torch.Tensor, captions: list[str], latents: list[int]
    ) -> torch.Tensor:
        with self._positions_of(latents):
            predicted: torch.Tensor = self.transformer(
                hidden_states=noised.transpose(1, 2),
                timestep=sigma * TIMESTEPS,
                encoder_hidden_states=self._text(captions, noised.device),
                return_dict=False,
            )[0]
        return predicted.transpose(1, 2)

    def pipeline(self) -> WanPipeline:
        vae = SpaceToDepthCodec.over_time(RATIO)
        return WanPipeline(self.tokenizer, self.text_encoder, vae, clean_scheduler(self.shift), self.transformer)

    def _text(self, captions: list[str], device: torch.device) -> torch.Tensor:
        """As the pipeline gives it: nothing where the caption has ended."""
        ids, mask = tokens_of(self.tokenizer, captions, self.text_tokens, device)
        text: torch.Tensor = self.text_encoder(ids, mask).last_hidden_state
        return text * mask[..., None]

    def _positions_of(self, latents: list[int]) -> AbstractContextManager[None]:
        total = self.world.frames

        def whole(inner: Callable[..., Tables], noised: torch.Tensor) -> Tables:
            return inner(noised.new_empty(1, 1, total, *noised.shape[3:]))

        return positions_of(self.transformer.rope, latents, total, whole, axis=1)
