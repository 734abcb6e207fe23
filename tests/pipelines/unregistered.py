"""Tiny random pipelines of diffusers classes that no model of the registry has, with entries for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import diffusers
import transformers
from diffusers import DiffusionPipeline

from tests.pipelines.tiny_pipelines import (
    ATTENTION,
    CHARACTERS,
    TEXT_TOKENS,
    TEXT_WIDTH,
    clip_encoder,
    clip_tokenizer,
    hunyuanvideo,
    llama_tokenizer,
    t5_encoder,
    tiny_entry,
    wan,
    wan_denoiser,
)
from tuner.models import ModelEntry, VideoSizes, Workload


def wan22() -> DiffusionPipeline:
    """Two experts: one denoises while there is much noise, the other afterwards."""
    return wan(transformer_2=wan_denoiser(), boundary_ratio=0.8)


def hunyuanvideo15() -> DiffusionPipeline:
    """Guidance is a part of the pipeline, which has no callback; text of two encoders, and no picture."""
    transformer = diffusers.HunyuanVideo15Transformer3DModel(
        **ATTENTION,
        in_channels=9,
        out_channels=4,
        num_layers=2,
        num_refiner_layers=1,
        mlp_ratio=2.0,
        patch_size=2,
        patch_size_t=1,
        text_embed_dim=TEXT_WIDTH,
        text_embed_2_dim=TEXT_WIDTH,
        image_embed_dim=TEXT_WIDTH,
        rope_axes_dim=(4, 6, 6),
        target_size=16,
    )
    vae = diffusers.AutoencoderKLHunyuanVideo15(
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        spatial_compression_ratio=8,
        temporal_compression_ratio=4,
        downsample_match_channel=False,
        upsample_match_channel=False,
    )
    config = transformers.Qwen2_5_VLTextConfig(
        vocab_size=256,
        hidden_size=TEXT_WIDTH,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        rope_parameters={"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 10000.0},
    )
    tokenizer = transformers.Qwen2Tokenizer(
        vocab={piece: number for number, piece in enumerate(["<|endoftext|>", "Ġ", "Ċ", *CHARACTERS])}, merges=[]
    )
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    pipe = diffusers.HunyuanVideo15Pipeline(
        transformers.Qwen2_5_VLTextModel(config),
        tokenizer,
        transformer,
        vae,
        diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
        t5_encoder(),
        transformers.ByT5Tokenizer(extra_ids=0),
        diffusers.ClassifierFreeGuidance(guidance_scale=6.0),
    )
    pipe.tokenizer_max_length, pipe.tokenizer_2_max_length, pipe.vision_num_semantic_tokens = TEXT_TOKENS, 8, 3
    pipe.prompt_template_encode_start_idx = 4
    pipe.system_message = "Show:"
    return pipe


def ltx2() -> DiffusionPipeline:
    """Sound is denoised beside the video, with a copy of its sampler; guidance of three kinds makes three calls."""
    heads = {"num_attention_heads": 2, "attention_head_dim": 16}
    transformer = diffusers.LTX2VideoTransformer3DModel(
        **heads,
        in_channels=4,
        out_channels=4,
        cross_attention_dim=32,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=8,
        audio_cross_attention_dim=16,
        num_layers=2,
        caption_channels=TEXT_WIDTH,
        rope_double_precision=False,
    )
    vae = diffusers.AutoencoderKLLTX2Video(
        latent_channels=4,
        block_out_channels=(8,),
        decoder_block_out_channels=(8,),
        layers_per_block=(1,),
        decoder_layers_per_block=(1, 1),
        spatio_temporal_scaling=(True,),
        decoder_spatio_temporal_scaling=(True,),
        decoder_inject_noise=(False, False),
        downsample_type=("spatial",),
        upsample_residual=(False,),
        upsample_factor=(1,),
        patch_size=1,
        patch_size_t=1,
    )
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    audio_vae = diffusers.AutoencoderKLLTX2Audio(
        base_channels=4, ch_mult=(1,), num_res_blocks=1, latent_channels=2, mel_bins=8, mel_hop_length=160
    )
    config = transformers.Gemma3TextConfig(
        vocab_size=512,
        hidden_size=TEXT_WIDTH,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    vision = transformers.SiglipVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=32, patch_size=16
    )
    both = transformers.Gemma3Config(
        text_config=config,
        vision_config=vision,
        mm_tokens_per_image=4,
        image_token_index=5,
        boi_token_index=6,
        eoi_token_index=7,
    )
    connectors: Any = diffusers.pipelines.ltx2.LTX2TextConnectors(
        caption_channels=TEXT_WIDTH,
        text_proj_in_factor=3,
        video_connector_num_attention_heads=2,
        video_connector_attention_head_dim=8,
        video_connector_num_layers=1,
        video_connector_num_learnable_registers=None,
        audio_connector_num_attention_heads=2,
        audio_connector_attention_head_dim=8,
        audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None,
        rope_double_precision=False,
    )
    vocoder: Any = diffusers.pipelines.ltx2.vocoder.LTX2Vocoder(
        in_channels=16,
        hidden_channels=8,
        upsample_kernel_sizes=[4, 4],
        upsample_factors=[2, 2],
        resnet_kernel_sizes=[3],
        resnet_dilations=[[1, 3, 5]],
    )
    return diffusers.LTX2Pipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(),
        vae,
        audio_vae,
        transformers.Gemma3ForConditionalGeneration(both),
        llama_tokenizer(),
        connectors,
        transformer,
        vocoder,
    )


def hunyuanvideo_image() -> DiffusionPipeline:
    """Guidance calls the model once more, without saying so."""
    plain = hunyuanvideo()
    config = transformers.LlavaConfig(
        text_config=plain.text_encoder.config,
        vision_config=transformers.CLIPVisionConfig(
            hidden_size=TEXT_WIDTH,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
        ),
        image_token_index=5,
    )
    plain.transformer.register_to_config(image_condition_type="token_replace")
    return diffusers.HunyuanVideoImageToVideoPipeline(
        transformers.LlavaForConditionalGeneration(config),
        llama_tokenizer(),
        plain.transformer,
        plain.vae,
        plain.scheduler,
        clip_encoder(77),
        clip_tokenizer(77),
        transformers.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
    )


UNREGISTERED: dict[str, tuple[Callable[[], DiffusionPipeline], str]] = {  # with the model that they are like
    "wan-2.2": (wan22, "wan-1.3b"),
    "hunyuanvideo-1.5": (hunyuanvideo15, "hunyuanvideo"),
    "ltx-2": (ltx2, "ltx-video"),
}


def entry_of(name: str, steps: int) -> ModelEntry:
    """An entry as a user's package would register it."""
    _, like = UNREGISTERED[name]
    entry = tiny_entry(like, steps)
    sizes = VideoSizes()
    workload = Workload(5, 32, 32, steps, 3.0, TEXT_TOKENS) if name == "ltx-2" else entry.workload
    return replace(entry, name=name, workload=workload, sizes=sizes)
