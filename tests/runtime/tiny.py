"""Tiny random denoisers and pipelines of the real diffusers classes, built locally."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from typing import Any

import diffusers
import torch
from diffusers.models.embeddings import get_3d_rotary_pos_embed, get_3d_rotary_pos_embed_allegro
from torch import nn
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from asymrnr.artifact import Artifact
from asymrnr.schedule import Schedule
from asymrnr.sections import ScheduleSection

Inputs = dict[str, Any]
HEADS: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 4, "out_channels": 4}
WAN: dict[str, Any] = {
    **HEADS,
    **{"patch_size": (1, 2, 2), "text_dim": 8, "freq_dim": 32, "ffn_dim": 32, "rope_max_seq_len": 32},
}


def cogvideox_model(blocks: int = 2) -> diffusers.CogVideoXTransformer3DModel:
    return diffusers.CogVideoXTransformer3DModel(
        **HEADS,
        time_embed_dim=8,
        text_embed_dim=16,
        num_layers=blocks,
        sample_width=12,
        sample_height=12,
        sample_frames=13,
        patch_size=2,
        max_text_seq_length=8,
        use_rotary_positional_embeddings=True,
    )


def cogvideox() -> tuple[nn.Module, Inputs]:
    rotary = get_3d_rotary_pos_embed(16, ((0, 0), (6, 6)), (6, 6), 4)
    text, latent = torch.randn(2, 8, 16), torch.randn(2, 4, 4, 12, 12)
    return cogvideox_model(), {"hidden_states": latent, "encoder_hidden_states": text, "image_rotary_emb": rotary}


def mochi() -> tuple[nn.Module, Inputs]:
    model = diffusers.MochiTransformer3DModel(
        patch_size=2,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=3,
        pooled_projection_dim=16,
        in_channels=4,
        text_embed_dim=8,
        time_embed_dim=8,
        max_sequence_length=7,
    )
    nn.init.normal_(model.pos_frequencies)
    valid = torch.ones(2, 7)
    valid[0, 3:] = 0
    valid[1, 5:] = 0
    latent, text = torch.randn(2, 4, 4, 12, 12), torch.randn(2, 7, 8)
    return model, {"hidden_states": latent, "encoder_hidden_states": text, "encoder_attention_mask": valid}


def hunyuan(mlp_ratio: float = 4.0) -> tuple[nn.Module, Inputs]:
    model = diffusers.HunyuanVideoTransformer3DModel(
        **HEADS,
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=1,
        mlp_ratio=mlp_ratio,
        patch_size=2,
        patch_size_t=1,
        text_embed_dim=8,
        pooled_projection_dim=8,
        rope_axes_dim=(4, 6, 6),
    )
    valid = torch.ones(2, 9, dtype=torch.long)
    valid[0, 4:] = 0
    return model, {
        "hidden_states": torch.randn(2, 4, 4, 12, 12),
        "encoder_hidden_states": torch.randn(2, 9, 8),
        "encoder_attention_mask": valid,
        "pooled_projections": torch.randn(2, 8),
        "guidance": torch.tensor([6000.0, 6000.0]),
    }


def hunyuan15() -> tuple[nn.Module, Inputs]:
    """Text of two encoders, and no picture, all of it behind a mask of pairs."""
    model = diffusers.HunyuanVideo15Transformer3DModel(
        **HEADS,
        num_layers=2,
        num_refiner_layers=1,
        patch_size=2,
        text_embed_dim=8,
        text_embed_2_dim=8,
        image_embed_dim=8,
        rope_axes_dim=(4, 6, 6),
    )
    valid, valid_2 = torch.ones(2, 9, dtype=torch.long), torch.ones(2, 5, dtype=torch.long)
    valid[0, 4:], valid_2[1, 2:] = 0, 0
    return model, {
        "hidden_states": torch.randn(2, 4, 4, 12, 12),
        "encoder_hidden_states": torch.randn(2, 9, 8),
        "encoder_attention_mask": valid,
        "encoder_hidden_states_2": torch.randn(2, 5, 8),
        "encoder_attention_mask_2": valid_2,
        "image_embeds": torch.zeros(2, 3, 8),
    }


def wan() -> tuple[nn.Module, Inputs]:
    model = diffusers.WanTransformer3DModel(**WAN, num_layers=2)
    return model, {"hidden_states": torch.randn(2, 4, 4, 12, 12), "encoder_hidden_states": torch.randn(2, 9, 8)}


def wan_vace() -> tuple[nn.Module, Inputs]:
    """Blocks of their own look at what controls the video."""
    model = diffusers.WanVACETransformer3DModel(**WAN, num_layers=2, vace_layers=[0], vace_in_channels=6)
    latent, text, control = torch.randn(2, 4, 4, 12, 12), torch.randn(2, 9, 8), torch.randn(2, 6, 4, 12, 12)
    return model, {"hidden_states": latent, "encoder_hidden_states": text, "control_hidden_states": control}


def skyreels() -> tuple[nn.Module, Inputs]:
    model = diffusers.SkyReelsV2Transformer3DModel(**WAN, num_layers=2)
    return model, {"hidden_states": torch.randn(2, 4, 4, 12, 12), "encoder_hidden_states": torch.randn(2, 9, 8)}


def chronoedit() -> tuple[nn.Module, Inputs]:
    model = diffusers.ChronoEditTransformer3DModel(**WAN, num_layers=2)
    return model, {"hidden_states": torch.randn(2, 4, 4, 12, 12), "encoder_hidden_states": torch.randn(2, 9, 8)}


def consisid() -> tuple[nn.Module, Inputs]:
    model = diffusers.ConsisIDTransformer3DModel(
        **HEADS,
        time_embed_dim=8,
        text_embed_dim=16,
        num_layers=2,
        sample_width=12,
        sample_height=12,
        sample_frames=13,
        max_text_seq_length=8,
        use_rotary_positional_embeddings=True,
        is_train_face=False,
    )
    rotary = get_3d_rotary_pos_embed(16, ((0, 0), (6, 6)), (6, 6), 4)
    text, latent = torch.randn(2, 8, 16), torch.randn(2, 4, 4, 12, 12)
    return model, {"hidden_states": latent, "encoder_hidden_states": text, "image_rotary_emb": rotary}


def ltx() -> tuple[nn.Module, Inputs]:
    model = diffusers.LTXVideoTransformer3DModel(**HEADS, cross_attention_dim=32, num_layers=2, caption_channels=8)
    return model, {
        "hidden_states": torch.randn(2, 144, 4),
        "encoder_hidden_states": torch.randn(2, 9, 8),
        "encoder_attention_mask": torch.ones(2, 9),
        "num_frames": 4,
        "height": 6,
        "width": 6,
    }


def ltx2() -> tuple[nn.Module, Inputs]:
    """Sound is denoised with the video; each attends to itself, to the other and to text."""
    model = diffusers.LTX2VideoTransformer3DModel(
        **HEADS,
        cross_attention_dim=32,
        audio_in_channels=4,
        audio_out_channels=4,
        audio_num_attention_heads=2,
        audio_attention_head_dim=8,
        audio_cross_attention_dim=16,
        num_layers=2,
        caption_channels=8,
        rope_double_precision=False,
    )
    text = torch.randn(2, 9, 8)
    return model, {
        "hidden_states": torch.randn(2, 144, 4),
        "audio_hidden_states": torch.randn(2, 5, 4),
        "encoder_hidden_states": text,
        "audio_encoder_hidden_states": text,
        "sigma": torch.tensor([0.5, 0.5]),
        "num_frames": 4,
        "height": 6,
        "width": 6,
        "audio_num_frames": 5,
    }


def allegro() -> tuple[nn.Module, Inputs]:
    model = diffusers.AllegroTransformer3DModel(
        **{**HEADS, "attention_head_dim": 24},
        num_layers=2,
        cross_attention_dim=48,
        sample_width=12,
        sample_height=12,
        sample_frames=4,
        caption_channels=8,
        norm_elementwise_affine=False,
    )
    rotary = get_3d_rotary_pos_embed_allegro(24, ((0, 0), (6, 6)), (6, 6), 4)
    positions = torch.cartesian_prod(*[x.long() for x in rotary[3:]]).T.reshape(3, 1, -1).contiguous()
    visible = torch.ones(2, 4, 12, 12)
    visible[:, :, :, 8:] = 0  # padded video
    return model, {
        "hidden_states": torch.randn(2, 4, 4, 12, 12),
        "encoder_hidden_states": torch.randn(2, 9, 8),
        "attention_mask": visible,
        "encoder_attention_mask": torch.ones(2, 9),
        "image_rotary_emb": (rotary[:3], tuple(positions)),
    }


def animatediff() -> tuple[nn.Module, Inputs]:
    model = diffusers.UNetMotionModel(
        sample_size=16,
        block_out_channels=(8, 16),
        down_block_types=("CrossAttnDownBlockMotion", "CrossAttnDownBlockMotion"),
        up_block_types=("CrossAttnUpBlockMotion", "CrossAttnUpBlockMotion"),
        cross_attention_dim=8,
        num_attention_heads=2,
        norm_num_groups=2,
        motion_num_attention_heads=2,
        motion_max_seq_length=8,
        layers_per_block=1,
    )
    return model, {"sample": torch.randn(2, 4, 4, 16, 16), "encoder_hidden_states": torch.randn(8, 7, 8)}


DENOISERS = [cogvideox, mochi, hunyuan, wan, ltx, allegro, animatediff]
RELATIVES = [wan_vace, skyreels, chronoedit, consisid, hunyuan15, ltx2]  # called as others are


def wake(model: nn.Module) -> None:
    """Zero-initialised gates and outputs would hide every change of the attention."""
    model.eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.abs().max() == 0:
                parameter.normal_(std=0.05)


def build(denoiser: Callable[[], tuple[nn.Module, Inputs]], seed: int = 0) -> tuple[nn.Module, Inputs]:
    torch.manual_seed(seed)
    model, inputs = denoiser()
    wake(model)
    return model, inputs


@torch.no_grad()
def run(model: nn.Module, inputs: Inputs, timestep: float = 500.0) -> torch.Tensor:
    batch = 1 if "sample" in inputs else 2
    return model(**inputs, timestep=torch.full((batch,), timestep), return_dict=False)[0]


def assert_alike(found: torch.Tensor, want: torch.Tensor, plain: torch.Tensor | None = None) -> None:
    """Equal but for rounding, as of the same weights elsewhere in memory.

    Args:
        found, want: what is compared.
        plain: the output without the schedule, where there is one: rounding may then exchange a few tokens nearly
            equally near, each a small part of the schedule's effect.
    """
    bound = 1e-5 * want.norm() if plain is None else 0.01 * (want - plain).norm()
    assert (found - want).norm() <= bound


def tiny_artifact(schedule: Schedule, frames: int, size: int, target: float | None = None) -> Artifact:
    """An artifact that is not certified, for square videos in four steps."""
    document: dict[str, Any] = {
        "model": {"repo": "tiny", "transformer": "CogVideoXTransformer3DModel", "blocks": schedule.blocks},
        "workload": {"frames": frames, "height": size, "width": size, "steps": 4},
        "target": target,
        "schedule": ScheduleSection.from_schedule(schedule).model_dump(mode="json"),
    }
    return Artifact.model_validate_json(json.dumps(document))


def cogvideox_pipeline(seed: int = 0, blocks: int = 2) -> diffusers.CogVideoXPipeline:
    """Guidance runs both branches in one batch."""
    torch.manual_seed(seed)
    transformer = cogvideox_model(blocks)
    wake(transformer)
    vae = diffusers.AutoencoderKLCogVideoX(
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=2,
    ).eval()
    letters = string.ascii_letters + string.digits
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((c, -3.0) for c in letters)]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=0, additional_special_tokens=[], model_max_length=8)
    text_encoder = T5EncoderModel(T5Config(vocab_size=128, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2))
    pipeline = diffusers.CogVideoXPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder.eval(),
        vae=vae,
        transformer=transformer,
        scheduler=diffusers.CogVideoXDDIMScheduler(),
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(pipeline: diffusers.DiffusionPipeline, steps: int = 4, size: int = 96, frames: int = 13) -> torch.Tensor:
    """Final latents for a fixed seed; the token grid is (1 + (frames - 1) / 4, size / 16, size / 16)."""
    return pipeline(
        prompt="a cat",
        negative_prompt="bad",
        num_inference_steps=steps,
        num_frames=frames,
        height=size,
        width=size,
        guidance_scale=6.0,
        max_sequence_length=8,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
    ).frames
