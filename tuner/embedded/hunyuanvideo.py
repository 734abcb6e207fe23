"""`tiny-hunyuanvideo`: dual and single blocks, masked text and embedded guidance, behind HunyuanVideo's pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from itertools import chain
from typing import ClassVar

import torch
from diffusers import HunyuanVideoPipeline, HunyuanVideoTransformer3DModel
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel

from tuner.embedded.codec import CHANNELS, SpaceToDepthCodec
from tuner.embedded.denoiser import Denoiser, Stage, noise_levels
from tuner.embedded.flow import FlowDenoiser, Tables, positions_of
from tuner.embedded.sampler import TIMESTEPS, clean_scheduler
from tuner.embedded.text import TEXT_WIDTH, build_tokenizer, tokens_of
from tuner.embedded.worlds import OBJECT, SCENES, World

HEADS, HEAD_DIM, DUAL, SINGLE, MLP_RATIO = 2, 64, 5, 3, 3
RATIO = 2
SKIPPED = 2  # of the text encoder's last layers, which the pipeline does not look at
CLIP_TOKENS = 77  # the pipeline asks for so many
STRONGEST = 6.0  # guidance that is taught


def _about(world: World, steps: int) -> str:
    tokens = world.frames * (world.size // 4) ** 2
    return (
        f"the real `HunyuanVideoTransformer3DModel` (RoPE, patch 2, {DUAL} dual and {SINGLE} single blocks, {HEADS} "
        f"heads of {HEAD_DIM}, {tokens:,} video tokens, padded text behind a mask), a small Llama and a small CLIP "
        f"text encoder, word-level tokenizers, `UniPCMultistepScheduler` ({steps} steps of flow matching, guidance "
        "embedded) and a lossless codec that folds 2x2 pixels of two frames"
    )


class HunyuanVideo(FlowDenoiser):
    """See `Denoiser`. Guidance is a number that the model is told.

    Videos teach what it predicts without guidance (told 1). Last, what guidance of a scale makes of predictions with
    and without caption is distilled into one prediction (Meng et al. 2023, as in HunyuanVideo), in the same run: the
    moving average teaches it. Captions are left out from then on only: with some left out from the start, and no
    guidance told, it took twice as many single frames to go by colours and directions.
    """

    name = "tiny-hunyuanvideo"
    world = OBJECT
    ratio = RATIO
    stages = (
        Stage(3000, 1, 14),
        Stage(2000, 4, 3),
        Stage(2500, 12, 1, noisy=0.4, sharp=10),
        Stage(600, 12, 1, noisy=0.4, sharp=10, null=0.15, guided=0.6),
    )
    steps = 20
    few_steps: ClassVar[int | None] = 8
    guidance = 4.0
    text_tokens = 24
    shift = 3.0
    about = _about(OBJECT, steps)

    def __init__(self, dual: int = DUAL, single: int = SINGLE) -> None:
        super().__init__()
        self.tokenizer = build_tokenizer(self.world.words, 256)
        self.tokenizer_2 = build_tokenizer(self.world.words, CLIP_TOKENS)
        sizes = {"vocab_size": len(self.tokenizer), "hidden_size": TEXT_WIDTH, "intermediate_size": 2 * TEXT_WIDTH}
        sizes |= {"num_attention_heads": 4, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1}
        layers = 1 + SKIPPED
        self.text_encoder = LlamaModel(LlamaConfig(**sizes, num_hidden_layers=layers, max_position_embeddings=256))
        clip = CLIPTextConfig(
            **sizes, num_hidden_layers=1, max_position_embeddings=CLIP_TOKENS, projection_dim=TEXT_WIDTH
        )
        self.text_encoder_2 = CLIPTextModel(clip)
        self.transformer = HunyuanVideoTransformer3DModel(
            num_attention_heads=HEADS,
            attention_head_dim=HEAD_DIM,
            in_channels=CHANNELS * RATIO,
            out_channels=CHANNELS * RATIO,
            num_layers=dual,
            num_single_layers=single,
            num_refiner_layers=1,
            mlp_ratio=MLP_RATIO,
            patch_size=2,
            patch_size_t=1,
            guidance_embeds=True,
            text_embed_dim=TEXT_WIDTH,
            pooled_projection_dim=TEXT_WIDTH,
            rope_axes_dim=(16, 24, 24),
        )
        # Llama and CLIP start with words that hardly differ, and pass them on so: colours take long, directions longer.
        for words in (self.text_encoder.embed_tokens, self.text_encoder_2.get_input_embeddings()):
            nn.init.normal_(words.weight)
        for layer in (self.transformer.proj_out, self.transformer.norm_out.linear):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def blocks(self) -> Iterator[nn.Module]:
        return chain(self.transformer.transformer_blocks, self.transformer.single_transformer_blocks)

    def loss(
        self,
        clean: torch.Tensor,
        captions: list[str],
        latents: list[int],
        stage: Stage,
        generator: torch.Generator,
        average: Denoiser,
    ) -> torch.Tensor:
        if not stage.guided or float(torch.rand((), generator=generator)) >= stage.guided:
            return super().loss(clean, captions, latents, stage, generator, average)
        assert isinstance(average, HunyuanVideo)
        level = noise_levels(len(captions), stage.noisy, generator)
        noised, sigma = self.noised(clean, torch.randn(clean.shape, generator=generator), level)
        scale = (1 + (STRONGEST - 1) * torch.rand(len(captions), generator=generator)).to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            target = average.guided(noised, sigma, captions, latents, scale)
            predicted = self.predict(noised, sigma, captions, latents, scale)
        errors = (predicted.float() - target).square().mean((1, 2, 3, 4))
        return (self.weights(level, stage).to(self.device) * errors).mean()

    @torch.no_grad()
    def guided(
        self, noised: torch.Tensor, sigma: torch.Tensor, captions: list[str], latents: list[int], scale: torch.Tensor
    ) -> torch.Tensor:
        """The clean latents as classifier-free guidance has them; see `predict`."""
        both = self.predict(noised.repeat(2, 1, 1, 1, 1), sigma.repeat(2), [""] * len(captions) + captions, latents)
        without, told = both.float().chunk(2)
        return without + scale.view(-1, 1, 1, 1, 1) * (told - without)

    def predict(
        self,
        noised: torch.Tensor,
        sigma: torch.Tensor,
        captions: list[str],
        latents: list[int],
        scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Predict the clean latents, under guidance of a scale.

        Args:
            noised, sigma, captions, latents: see `FlowDenoiser.predict`.
            scale: (batch,) of the guidance; by default 1, none.
        """
        scale = torch.ones_like(sigma) if scale is None else scale
        text, mask, pooled = self._text(captions, noised.device)
        with self._positions_of(latents):
            predicted: torch.Tensor = self.transformer(
                hidden_states=noised.transpose(1, 2),
                timestep=sigma * TIMESTEPS,
                encoder_hidden_states=text,
                encoder_attention_mask=mask,
                pooled_projections=pooled,
                guidance=scale * TIMESTEPS,
                return_dict=False,
            )[0]
        return predicted.transpose(1, 2)

    def pipeline(self) -> HunyuanVideoPipeline:
        return HunyuanVideoPipeline(
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            transformer=self.transformer,
            vae=SpaceToDepthCodec.over_time(RATIO),
            scheduler=clean_scheduler(self.shift),
            text_encoder_2=self.text_encoder_2,
            tokenizer_2=self.tokenizer_2,
        )

    def _text(self, captions: list[str], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As the pipeline gives it: hidden states and mask behind most of its template, and the pooled caption."""
        crop: int = DEFAULT_PROMPT_TEMPLATE["crop_start"]
        told = [DEFAULT_PROMPT_TEMPLATE["template"].format(caption) for caption in captions]
        ids, mask = tokens_of(self.tokenizer, told, self.text_tokens + crop, device)
        hidden = self.text_encoder(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        pooled = self.text_encoder_2(tokens_of(self.tokenizer_2, captions, CLIP_TOKENS, device)[0]).pooler_output
        return hidden[-(SKIPPED + 1)][:, crop:], mask[:, crop:], pooled

    def _positions_of(self, latents: list[int]) -> AbstractContextManager[None]:
        total = self.world.frames

        def whole(inner: Callable[..., Tables], noised: torch.Tensor) -> Tables:
            return inner(noised.new_empty(1, 1, total, *noised.shape[3:]))

        return positions_of(self.transformer.rope, latents, total, whole)


class HunyuanVideoScenes(HunyuanVideo):
    """The same, trained on two objects that may hide each other, before a textured background and a moving camera."""

    name = "tiny-hunyuanvideo-scenes"
    world = SCENES
    stages = (
        Stage(2400, 1, 14),
        Stage(1200, 4, 3),
        Stage(1600, 16, 1, noisy=0.4, sharp=10),
        Stage(400, 16, 1, noisy=0.4, sharp=10, null=0.15, guided=0.6),
    )
    few_steps = None
    text_tokens = 32
    about = _about(SCENES, HunyuanVideo.steps)
