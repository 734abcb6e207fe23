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
from tuner.embedded.denoiser import Stage
from tuner.embedded.flow import STAGES_OF_SCENES, FlowDenoiser, Tables, positions_of
from tuner.embedded.sampler import TIMESTEPS, clean_scheduler
from tuner.embedded.text import TEXT_WIDTH, build_tokenizer, tokens_of
from tuner.embedded.worlds import OBJECT, SCENES, World

HEADS, HEAD_DIM, DUAL, SINGLE, MLP_RATIO = 2, 64, 5, 3, 3
RATIO = 2
SKIPPED = 2  # of the text encoder's last layers, which the pipeline does not look at
CLIP_TOKENS = 77  # the pipeline asks for so many


def _about(world: World, steps: int) -> str:
    tokens = world.frames * (world.size // 4) ** 2
    return (
        f"the real `HunyuanVideoTransformer3DModel` (RoPE, patch 2, {DUAL} dual and {SINGLE} single blocks, {HEADS} "
        f"heads of {HEAD_DIM}, {tokens:,} video tokens, padded text behind a mask), a small Llama and a small CLIP "
        f"text encoder, word-level tokenizers, `UniPCMultistepScheduler` ({steps} steps of flow matching, guidance "
        "embedded, and in two passes besides) and a lossless codec that folds 2x2 pixels of two frames"
    )


class HunyuanVideo(FlowDenoiser):
    """See `Denoiser`. Guidance is a number that the model is told; it is trained with one only.

    Some captions are left out, for classifier-free guidance in two passes, which the pipeline has as well
    (`true_cfg_scale`) and the packaged model uses: without it, triangles come last, and with a scale of 4 plain
    backgrounds get patterns that change with everything. Distilling guidance into the number that the model is told, in
    the same run, taught neither (6,000 steps: shapes right in 14 of 18 captions, of triangles in none of 4).
    """

    name = "tiny-hunyuanvideo"
    world = OBJECT
    ratio = RATIO
    stages: ClassVar[tuple[Stage, ...]] = (
        Stage(3000, 1, 14),
        Stage(2000, 4, 3),
        Stage(2500, 12, 1, noisy=0.4, sharp=10),
    )
    steps = 20
    few_steps: ClassVar[int | None] = 8
    guidance = 6.0
    null_share = 0.1
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

    def predict(
        self, noised: torch.Tensor, sigma: torch.Tensor, captions: list[str], latents: list[int]
    ) -> torch.Tensor:
        text, mask, pooled = self._text(captions, noised.device)
        with self._positions_of(latents):
            predicted: torch.Tensor = self.transformer(
                hidden_states=noised.transpose(1, 2),
                timestep=sigma * TIMESTEPS,
                encoder_hidden_states=text,
                encoder_attention_mask=mask,
                pooled_projections=pooled,
                guidance=torch.full_like(sigma, self.guidance * TIMESTEPS),
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
    begins_as = "tiny-hunyuanvideo"
    stages = STAGES_OF_SCENES
    steps = 16
    few_steps = None
    text_tokens = 32
    about = _about(SCENES, steps)
