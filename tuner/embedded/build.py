"""Builds the parts of the embedded models: tokenizer, text encoder, transformer, scheduler, pipeline."""

from __future__ import annotations

import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from tuner.embedded.codec import SpaceToDepthCodec
from tuner.embedded.world import FRAMES, SIZE, vocabulary

TEXT_TOKENS = 16
HEADS, HEAD_DIM, BLOCKS, TEXT_WIDTH = 2, 64, 8, 64
LATENT = SIZE // 2
GRID = LATENT // 2
STEPS = 30


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer over the world's vocabulary."""
    ids = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", *vocabulary()])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=TEXT_TOKENS,
    )


def build_text_encoder(vocab_size: int) -> T5EncoderModel:
    """One T5 layer: the captions are short and of one form."""
    return T5EncoderModel(
        T5Config(
            vocab_size=vocab_size,
            d_model=TEXT_WIDTH,
            d_kv=16,
            d_ff=128,
            num_layers=1,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            pad_token_id=0,
            eos_token_id=1,
        )
    )


def build_transformer() -> CogVideoXTransformer3DModel:
    """The untrained denoiser; modulation and output start at zero, so that every block starts as the identity."""
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_DIM,
        in_channels=12,
        out_channels=12,
        time_embed_dim=64,
        text_embed_dim=TEXT_WIDTH,
        num_layers=BLOCKS,
        sample_width=LATENT,
        sample_height=LATENT,
        sample_frames=FRAMES,
        patch_size=2,
        temporal_compression_ratio=1,
        max_text_seq_length=TEXT_TOKENS,
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


def build_scheduler() -> CogVideoXDDIMScheduler:
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


def rotary_embedding() -> tuple[torch.Tensor, torch.Tensor]:
    """The pipeline's rotary tables, each (frames, tokens per frame, head dim), so that frames can be picked."""
    cos, sin = get_3d_rotary_pos_embed(
        embed_dim=HEAD_DIM,
        crops_coords=((0, 0), (GRID, GRID)),
        grid_size=(GRID, GRID),
        temporal_size=FRAMES,
    )
    return cos.view(FRAMES, GRID * GRID, -1), sin.view(FRAMES, GRID * GRID, -1)


def build_pipeline(
    tokenizer: PreTrainedTokenizerFast, text_encoder: T5EncoderModel, transformer: CogVideoXTransformer3DModel
) -> CogVideoXPipeline:
    """The real pipeline around the trained parts."""
    return CogVideoXPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=SpaceToDepthCodec(),
        transformer=transformer,
        scheduler=build_scheduler(),
    )
