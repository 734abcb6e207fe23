"""`tiny-mochi`: Mochi's asymmetric text stream, with guidance in one batch, behind its pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, ClassVar

import torch
from diffusers import MochiPipeline, MochiTransformer3DModel
from torch import nn
from transformers import T5Config, T5EncoderModel

from tuner.embedded.codec import CHANNELS, SpaceToDepthCodec
from tuner.embedded.denoiser import Stage
from tuner.embedded.flow import STAGES_OF_SCENES, FlowDenoiser, Tables, positions_of
from tuner.embedded.sampler import TIMESTEPS, CleanFlowMatchEulerScheduler
from tuner.embedded.text import T5_SIZES, TEXT_WIDTH, build_tokenizer, tokens_of
from tuner.embedded.worlds import OBJECT, SCENES, World

HEADS, HEAD_DIM, BLOCKS = 2, 64, 8
RATIO = 2
TOKEN = 12.0  # distance of two tokens, in the units of Mochi's positions: 192 for the whole picture
# The pipeline takes a latent for 8 pixels and 6 frames; here it is 2 pixels of two frames.
ENLARGED, HELD = 4, 3
GUIDANCE = 4.0


def _about(world: World, steps: int) -> str:
    tokens = world.frames * (world.size // 4) ** 2
    return (
        f"the real `MochiTransformer3DModel` (learned RoPE, patch 2, {BLOCKS} blocks, {HEADS} heads of {HEAD_DIM}, "
        f"{tokens:,} video tokens, a narrower text stream with every prompt's own length), a one-layer T5 encoder, a "
        f"word-level tokenizer, Euler's method for predictions of the clean video ({steps} steps, guidance "
        f"{GUIDANCE:g} in one batch) and a lossless codec that folds 2x2 pixels of two frames, whose pictures are "
        f"enlarged {ENLARGED} times and held for {HELD} frames, because the pipeline counts so"
    )


class Mochi(FlowDenoiser):
    """See `Denoiser`. Mochi counts from noise to clean."""

    name = "tiny-mochi"
    world = OBJECT
    ratio = RATIO
    enlarged, held = ENLARGED, HELD
    stages: ClassVar[tuple[Stage, ...]] = (
        Stage(1600, 1, 14),
        Stage(1200, 4, 3),
        Stage(1600, 12, 1, noisy=0.4, sharp=10),
    )
    steps = 20
    guidance = GUIDANCE
    null_share = 0.1
    text_tokens = 16
    shift = 3.0
    about = _about(OBJECT, steps)

    def __init__(self, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.tokenizer = build_tokenizer(self.world.words, self.text_tokens)
        self.text_encoder = T5EncoderModel(T5Config(vocab_size=len(self.tokenizer), **T5_SIZES))
        self.transformer = MochiTransformer3DModel(
            patch_size=2,
            num_attention_heads=HEADS,
            attention_head_dim=HEAD_DIM,
            num_layers=blocks,
            pooled_projection_dim=TEXT_WIDTH,
            in_channels=CHANNELS * RATIO,
            text_embed_dim=TEXT_WIDTH,
            time_embed_dim=64,
            max_sequence_length=self.text_tokens,
        )
        with torch.no_grad():
            self.transformer.pos_frequencies.copy_(_frequencies())
        for layer in (self.transformer.proj_out, self.transformer.norm_out.linear):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def blocks(self) -> Iterator[nn.Module]:
        return iter(self.transformer.transformer_blocks)

    def predict(
        self, noised: torch.Tensor, sigma: torch.Tensor, captions: list[str], latents: list[int]
    ) -> torch.Tensor:
        ids, mask = tokens_of(self.tokenizer, captions, self.text_tokens, noised.device)
        with self._positions_of(latents):
            predicted: torch.Tensor = self.transformer(
                hidden_states=noised.transpose(1, 2),
                encoder_hidden_states=self.text_encoder(ids, attention_mask=mask)[0],
                timestep=(1 - sigma) * TIMESTEPS,
                encoder_attention_mask=mask.bool(),
                return_dict=False,
            )[0]
        return predicted.transpose(1, 2)

    def pipeline(self) -> MochiPipeline:
        return MochiPipeline(
            scheduler=CleanFlowMatchEulerScheduler(invert_sigmas=True),
            vae=SpaceToDepthCodec.over_time(RATIO, scaled=False, enlarged=self.enlarged, held=self.held),
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            transformer=self.transformer,
        )

    def _positions_of(self, latents: list[int]) -> AbstractContextManager[None]:
        total = self.world.frames

        def whole(inner: Callable[..., Tables], frequencies: torch.Tensor, _: int, *size: int, **where: Any) -> Tables:
            return inner(frequencies, total, *size, **where)

        return positions_of(self.transformer.rope, latents, total, whole)


class MochiScenes(Mochi):
    """The same, trained on two objects that may hide each other, before a textured background and a moving camera."""

    name = "tiny-mochi-scenes"
    world = SCENES
    begins_as = "tiny-mochi"
    # Too few: shapes, which come last, were right in 11 of 48 captions (docs/reference/measured.md).
    stages = tuple(
        replace(stage, steps=steps) for stage, steps in zip(STAGES_OF_SCENES, (2300, 1300, 1800), strict=True)
    )
    steps = 16
    text_tokens = 32
    about = _about(SCENES, steps)


def _frequencies() -> torch.Tensor:
    """(3, heads, head dim / 2) to begin with: a quarter of the pairs for time, the others for height and width."""
    pairs = HEAD_DIM // 2
    found = torch.zeros(3, HEADS, pairs)
    begin = 0
    for axis, (count, unit) in enumerate(((pairs // 4, 1.0), (3 * pairs // 8, TOKEN), (3 * pairs // 8, TOKEN))):
        found[axis, :, begin : begin + count] = torch.logspace(0, -2, count) / unit
        begin += count
    return found
