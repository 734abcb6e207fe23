"""Tiny random pipelines of the real diffusers classes, one for every hub model of the registry, built locally."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import diffusers
import pytest
import torch
from diffusers import DiffusionPipeline
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaModel,
    LlamaTokenizerFast,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

from tests.runtime.tiny import wake
from tuner.models import REGISTRY, ModelEntry, Workload

CHARACTERS = string.ascii_letters + string.digits + string.punctuation
TEXT_WIDTH, TEXT_TOKENS = 16, 16
ATTENTION: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 16}


def t5_tokenizer() -> T5Tokenizer:
    """One token a character, as all tokenizers here."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    vocabulary = special + [(character, -3.0) for character in CHARACTERS]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, additional_special_tokens=[], model_max_length=TEXT_TOKENS)


def clip_tokenizer(length: int) -> CLIPTokenizer:
    pieces = ["<|startoftext|>", "<|endoftext|>"]
    for character in sorted(set(CHARACTERS.lower())):
        pieces += [character, character + "</w>"]
    return CLIPTokenizer(vocab={p: i for i, p in enumerate(pieces)}, merges=[], model_max_length=length)


def llama_tokenizer() -> LlamaTokenizerFast:
    pieces = ["<unk>", "<s>", "</s>", "<pad>", "▁", *(f"<0x{byte:02X}>" for byte in range(256)), *CHARACTERS]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return LlamaTokenizerFast(vocab=vocabulary, merges=[], pad_token="<pad>", padding_side="right")


def t5_encoder() -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=128, d_model=TEXT_WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2))


def umt5_encoder() -> UMT5EncoderModel:
    return UMT5EncoderModel(UMT5Config(vocab_size=128, d_model=TEXT_WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2))


def clip_encoder(length: int) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=256,
            hidden_size=TEXT_WIDTH,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=length,
            projection_dim=TEXT_WIDTH,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )


def llama_encoder() -> LlamaModel:
    return LlamaModel(
        LlamaConfig(
            vocab_size=512,
            hidden_size=TEXT_WIDTH,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            num_key_value_heads=2,
            max_position_embeddings=512,
            pad_token_id=3,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def cogvideox(rotary: bool, image: bool = False, pipeline: Any = diffusers.CogVideoXPipeline) -> DiffusionPipeline:
    """Guidance runs both branches in one batch; text comes before video; latents of a picture beside those of noise."""
    transformer = diffusers.CogVideoXTransformer3DModel(
        **ATTENTION,
        in_channels=8 if image else 4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=TEXT_WIDTH,
        num_layers=2,
        sample_width=8,
        sample_height=8,
        sample_frames=9,
        patch_size=2,
        max_text_seq_length=TEXT_TOKENS,
        use_rotary_positional_embeddings=rotary,
    )
    vae = diffusers.AutoencoderKLCogVideoX(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=2
    )
    scheduler = diffusers.CogVideoXDPMScheduler() if rotary else diffusers.CogVideoXDDIMScheduler()
    return pipeline(t5_tokenizer(), t5_encoder(), vae, transformer, scheduler)


def mochi() -> DiffusionPipeline:
    """Attention runs once per batch item, with that item's valid text only."""
    transformer = diffusers.MochiTransformer3DModel(
        **ATTENTION,
        patch_size=2,
        num_layers=2,
        pooled_projection_dim=16,
        in_channels=12,
        text_embed_dim=TEXT_WIDTH,
        time_embed_dim=8,
        max_sequence_length=TEXT_TOKENS,
    )
    nn.init.normal_(transformer.pos_frequencies)
    vae = diffusers.AutoencoderKLMochi(
        latent_channels=12,
        out_channels=3,
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        layers_per_block=(1, 1, 1, 1, 1),
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    return diffusers.MochiPipeline(scheduler, vae, t5_encoder(), t5_tokenizer(), transformer)


def hunyuanvideo() -> DiffusionPipeline:
    """Guidance is an input of the model; text is masked; double and single stream blocks."""
    transformer = diffusers.HunyuanVideoTransformer3DModel(
        **ATTENTION,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=2,
        patch_size_t=1,
        guidance_embeds=True,
        text_embed_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        rope_axes_dim=(4, 6, 6),
    )
    vae = diffusers.AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0)
    return diffusers.HunyuanVideoPipeline(
        llama_encoder(), llama_tokenizer(), transformer, vae, scheduler, clip_encoder(77), clip_tokenizer(77)
    )


def wan_denoiser(image: bool = False) -> diffusers.WanTransformer3DModel:
    return diffusers.WanTransformer3DModel(
        **ATTENTION,
        patch_size=(1, 2, 2),
        in_channels=16 + image * (16 + 4),
        out_channels=16,
        text_dim=TEXT_WIDTH,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=32,
        **({"image_dim": TEXT_WIDTH, "added_kv_proj_dim": 32} if image else {}),
    )


def wan(image: bool = False, pipeline: Any = diffusers.WanPipeline, **parts: Any) -> DiffusionPipeline:
    """Guidance calls the model twice a step; text, and what is seen in a picture, come in by cross-attention."""
    transformer = wan_denoiser(image)
    vae = diffusers.AutoencoderKLWan(
        base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    if not image:
        return pipeline(
            tokenizer=t5_tokenizer(),
            text_encoder=umt5_encoder(),
            vae=vae,
            scheduler=scheduler,
            transformer=transformer,
            **parts,
        )
    eye = CLIPVisionModel(
        CLIPVisionConfig(
            hidden_size=TEXT_WIDTH,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
        )
    )
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return diffusers.WanImageToVideoPipeline(
        t5_tokenizer(), umt5_encoder(), vae, scheduler, processor, eye, transformer
    )


def ltx_video() -> DiffusionPipeline:
    """The model works on packed latents, which do not show the token grid."""
    transformer = diffusers.LTXVideoTransformer3DModel(
        **ATTENTION,
        in_channels=8,
        out_channels=8,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=TEXT_WIDTH,
    )
    vae = diffusers.AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        patch_size=1,
        patch_size_t=1,
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return diffusers.LTXPipeline(scheduler, vae, t5_encoder(), t5_tokenizer(), transformer)


def animatediff() -> DiffusionPipeline:
    """A U-Net whose spatial attention works frame by frame, on two resolutions."""
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=16,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=2,
    )
    adapter = diffusers.MotionAdapter(
        block_out_channels=(8, 16),
        motion_layers_per_block=1,
        motion_norm_num_groups=2,
        motion_num_attention_heads=2,
        motion_max_seq_length=8,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=2,
    )
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="linear", clip_sample=False, steps_offset=1
    )
    return diffusers.AnimateDiffPipeline(
        vae, clip_encoder(TEXT_TOKENS), clip_tokenizer(TEXT_TOKENS), unet, adapter, scheduler
    )


BUILDERS: dict[str, Callable[[], DiffusionPipeline]] = {
    "cogvideox-2b": lambda: cogvideox(rotary=False),
    "cogvideox-5b": lambda: cogvideox(rotary=True),
    "mochi": mochi,
    "hunyuanvideo": hunyuanvideo,
    "fastvideo-hunyuan": hunyuanvideo,
    "animatediff": animatediff,
    "wan-1.3b": wan,
    "ltx-video": ltx_video,
}
START_FROM_PICTURES: dict[str, Callable[[], DiffusionPipeline]] = {
    "cogvideox-5b-i2v": lambda: cogvideox(True, True, diffusers.CogVideoXImageToVideoPipeline),
    "wan-14b-i2v": lambda: wan(image=True),
}
START_FROM_VIDEOS: dict[str, Callable[[], DiffusionPipeline]] = {
    "cogvideox-5b-v2v": lambda: cogvideox(True, False, diffusers.CogVideoXVideoToVideoPipeline),
    "wan-1.3b-v2v": lambda: wan(pipeline=diffusers.WanVideoToVideoPipeline),
}
# Frames and size: a token grid of 3x4x4, Mochi 2x4x4, LTX-Video 3x8x8, AnimateDiff 16x16 and 8x8 a frame.
SIZES = {"mochi": (7, 64), "ltx-video": (9, 32), "animatediff": (4, 32)}
# diffusers loads models that keep parts in float32 only with accelerate.
NEED_ACCELERATE = ("hunyuanvideo", "fastvideo-hunyuan", "wan-1.3b", "wan-14b-i2v", "wan-1.3b-v2v")


def skip_unless_loadable(name: str) -> None:
    if name in NEED_ACCELERATE:
        pytest.importorskip("accelerate")


def build(name: str, seed: int = 0) -> DiffusionPipeline:
    """A random pipeline of the class that the registry names; the same seed gives the same weights."""
    return ready((BUILDERS | START_FROM_PICTURES | START_FROM_VIDEOS)[name], seed)


def ready(builder: Callable[[], DiffusionPipeline], seed: int = 0) -> DiffusionPipeline:
    """What a builder builds, with random weights everywhere."""
    torch.manual_seed(seed)
    pipe = builder()
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            wake(part)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def tiny_entry(name: str, steps: int = 3) -> ModelEntry:
    """The registry's entry with a workload that fits."""
    entry = REGISTRY[name]
    frames, size = SIZES.get(name, (9, 64))
    guidance, strength = entry.workload.guidance_scale, entry.workload.strength
    return replace(entry, workload=Workload(frames, size, size, steps, guidance, TEXT_TOKENS, strength))
