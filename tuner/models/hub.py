"""The models whose weights are on the Hugging Face hub.

Workloads and samplers of CogVideoX, Mochi, HunyuanVideo, FastVideo and AnimateDiff are those of the paper (appendix C
and table 4; guidance as their pipelines have it by default), those of Wan and LTX-Video their pipelines' defaults.

Sizes follow from how many pixels and frames a token covers, those of AnimateDiff from the levels of its U-Net and from
how many frames its motion adapter has positions for.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from diffusers import (
    AnimateDiffPipeline,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXVideoToVideoPipeline,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    LTXPipeline,
    MochiPipeline,
    MotionAdapter,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanVideoToVideoPipeline,
)

from tuner.models.entry import ModelEntry, Scheduler, VideoSizes, Workload
from tuner.models.prompts import HELD_OUT, TUNING, written
from tuner.models.weights import HubWeights

_COGVIDEOX_2B = ModelEntry(
    name="cogvideox-2b",
    weights=HubWeights("THUDM/CogVideoX-2b", "1137dacfc2c9c012bed6a0793f4ecf2ca8e7ba01"),
    pipeline=CogVideoXPipeline,
    workload=Workload(frames=49, height=480, width=720, steps=50, guidance_scale=6.0, max_sequence_length=226),
    sizes=VideoSizes(sides=16, frames=4),
    search_space="cogvideox.yaml",
    tuning_prompts=written(TUNING),
    held_out_prompts=written(HELD_OUT),
    dtype=torch.float16,
    scheduler=Scheduler(CogVideoXDDIMScheduler, {"timestep_spacing": "trailing"}),
)

_COGVIDEOX_5B = ModelEntry(
    name="cogvideox-5b",
    weights=HubWeights("THUDM/CogVideoX-5b", "8d6ea3f817438460b25595a120f109b88d5fdfad"),
    pipeline=CogVideoXPipeline,
    workload=Workload(frames=49, height=480, width=720, steps=50, guidance_scale=6.0, max_sequence_length=226),
    sizes=VideoSizes(sides=16, frames=4),
    search_space="cogvideox.yaml",
    tuning_prompts=written(TUNING),
    held_out_prompts=written(HELD_OUT),
    dtype=torch.bfloat16,
    scheduler=Scheduler(CogVideoXDPMScheduler, {"timestep_spacing": "trailing"}),
)

_COGVIDEOX_5B_I2V = replace(
    _COGVIDEOX_5B,
    name="cogvideox-5b-i2v",
    weights=HubWeights("THUDM/CogVideoX-5b-I2V", "a6f0f4858a8395e7429d82493864ce92bf73af11"),
    pipeline=CogVideoXImageToVideoPipeline,
    tuning_prompts=written(()),  # there are no pictures to go with prompts of ours
    held_out_prompts=written(()),
    images={},
)

_MOCHI = ModelEntry(
    name="mochi",
    weights=HubWeights("genmo/mochi-1-preview", "14be5fcea23095ed330cb214647916a451e38b6e", variant="bf16"),
    pipeline=MochiPipeline,
    workload=Workload(frames=85, height=480, width=848, steps=30, guidance_scale=4.5, max_sequence_length=256),
    sizes=VideoSizes(sides=16, frames=6),
    search_space="mochi.yaml",
    tuning_prompts=written(TUNING),
    held_out_prompts=written(HELD_OUT),
    dtype=torch.bfloat16,
    scheduler=Scheduler(FlowMatchEulerDiscreteScheduler),
    tiled_decoding=True,
    fps=30,
)

_HUNYUANVIDEO = ModelEntry(
    name="hunyuanvideo",
    weights=HubWeights("hunyuanvideo-community/HunyuanVideo", "e8c2aaa66fe3742a32c11a6766aecbf07c56e773"),
    pipeline=HunyuanVideoPipeline,
    workload=Workload(frames=129, height=544, width=960, steps=30, guidance_scale=6.0, max_sequence_length=256),
    sizes=VideoSizes(sides=16, frames=4),
    search_space="hunyuanvideo.yaml",
    tuning_prompts=written(TUNING),
    held_out_prompts=written(HELD_OUT),
    dtype=torch.bfloat16,
    vae_dtype=torch.float16,
    scheduler=Scheduler(FlowMatchEulerDiscreteScheduler, {"shift": 7.0}),
    tiled_decoding=True,
    fps=24,
)

_FASTVIDEO_HUNYUAN = ModelEntry(
    name="fastvideo-hunyuan",
    weights=HubWeights("FastVideo/FastHunyuan-diffusers", "7e948fca38562e218ae34485e005956592d36d9b"),
    pipeline=HunyuanVideoPipeline,
    workload=Workload(frames=65, height=720, width=1280, steps=6, guidance_scale=6.0, max_sequence_length=256),
    sizes=VideoSizes(sides=16, frames=4),
    search_space="fastvideo-hunyuan.yaml",
    tuning_prompts=written(TUNING),
    held_out_prompts=written(HELD_OUT),
    dtype=torch.bfloat16,
    vae_dtype=torch.float16,
    scheduler=Scheduler(FlowMatchEulerDiscreteScheduler, {"shift": 17.0}),  # as its authors sample it
    tiled_decoding=True,
    fps=24,
)

_ANIMATEDIFF = ModelEntry(
    name="animatediff",
    weights=HubWeights("SG161222/Realistic_Vision_V5.1_noVAE", "1e9f017a7b1eaefb63a1900ea6c5953d2739fd21"),
    pipeline=AnimateDiffPipeline,
    workload=Workload(frames=16, height=512, width=512, steps=50, guidance_scale=7.5, max_sequence_length=77),
    sizes=VideoSizes(sides=64, most_frames=32, token=8, frames_apart=True),
    search_space="animatediff.yaml",
    tuning_prompts=written(TUNING),
    held_out_prompts=written(HELD_OUT),
    dtype=torch.float16,
    scheduler=Scheduler(
        DDIMScheduler,
        {"beta_schedule": "linear", "clip_sample": False, "timestep_spacing": "linspace", "steps_offset": 1},
    ),
    components={
        "motion_adapter": (
            MotionAdapter,
            HubWeights("guoyww/animatediff-motion-adapter-v1-5-2", "6167b88ffe39b4441fdf2113e77b99a6f56b7906"),
        )
    },
)

_WAN = ModelEntry(
    name="wan-1.3b",
    weights=HubWeights("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "0fad780a534b6463e45facd96134c9f345acfa5b"),
    pipeline=WanPipeline,
    workload=Workload(frames=81, height=480, width=832, steps=50, guidance_scale=5.0, max_sequence_length=512),
    sizes=VideoSizes(sides=16, frames=4),
    search_space="wan.yaml",
    tuning_prompts=written(TUNING),
    held_out_prompts=written(HELD_OUT),
    dtype=torch.bfloat16,
    vae_dtype=torch.float32,
    scheduler=Scheduler(
        UniPCMultistepScheduler,
        {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0},  # advised for 480 lines
    ),
    fps=16,
)

_WAN_I2V = replace(
    _WAN,
    name="wan-14b-i2v",
    weights=HubWeights("Wan-AI/Wan2.1-I2V-14B-480P-Diffusers", "b184e23a8a16b20f108f727c902e769e873ffc73"),
    pipeline=WanImageToVideoPipeline,
    tuning_prompts=written(()),
    held_out_prompts=written(()),
    images={},
)

_COGVIDEOX_5B_V2V = replace(
    _COGVIDEOX_5B,
    name="cogvideox-5b-v2v",
    pipeline=CogVideoXVideoToVideoPipeline,
    saved_as=CogVideoXPipeline,
    workload=replace(_COGVIDEOX_5B.workload, steps=40, strength=0.8),  # of 50, by default
    tuning_prompts=written(()),  # there are no videos to go with prompts of ours
    held_out_prompts=written(()),
    videos={},
)

_WAN_V2V = replace(
    _WAN,
    name="wan-1.3b-v2v",
    pipeline=WanVideoToVideoPipeline,
    saved_as=WanPipeline,
    workload=replace(_WAN.workload, steps=40, strength=0.8),
    tuning_prompts=written(()),
    held_out_prompts=written(()),
    videos={},
)

_LTX_VIDEO = ModelEntry(
    name="ltx-video",
    weights=HubWeights("Lightricks/LTX-Video", "8984fa25007f376c1a299016d0957a37a2f797bb"),
    pipeline=LTXPipeline,
    workload=Workload(frames=161, height=512, width=704, steps=50, guidance_scale=3.0, max_sequence_length=128),
    sizes=VideoSizes(sides=32, frames=8),
    search_space="ltx-video.yaml",
    tuning_prompts=written(TUNING),
    held_out_prompts=written(HELD_OUT),
    dtype=torch.bfloat16,
    scheduler=Scheduler(FlowMatchEulerDiscreteScheduler),
    fps=25,
)

ENTRIES = (
    _COGVIDEOX_2B,
    _COGVIDEOX_5B,
    _MOCHI,
    _HUNYUANVIDEO,
    _FASTVIDEO_HUNYUAN,
    _ANIMATEDIFF,
    _WAN,
    _LTX_VIDEO,
    _COGVIDEOX_5B_I2V,
    _WAN_I2V,
    _COGVIDEOX_5B_V2V,
    _WAN_V2V,
)
