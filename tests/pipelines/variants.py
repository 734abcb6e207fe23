"""LoRAs, and tiny pipelines loaded with them and in other ways, as far as a CPU can."""

from __future__ import annotations

from pathlib import Path

import accelerate
import peft
import torch
from diffusers import DiffusionPipeline
from torch import nn

from tests.pipelines.tiny_pipelines import build
from tuner.models import denoisers

RANK, ALPHA = 2, 4


def save_lora(name: str, folder: Path, seed: int = 0) -> Path:
    """A random LoRA of the attention of a model's denoiser, as diffusers saves it."""
    pipe = build(name)
    [model] = denoisers(pipe)
    torch.manual_seed(seed)
    targets = ["to_q", "to_k", "to_v"]
    model.add_adapter(peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=targets))
    for parameter_name, parameter in model.named_parameters():
        if "lora_" in parameter_name:
            nn.init.normal_(parameter, std=0.2)
    part = "unet" if hasattr(pipe, "unet") else "transformer"
    pipe.save_lora_weights(
        folder,
        **{f"{part}_lora_layers": peft.get_peft_model_state_dict(model)},
        **{f"{part}_lora_adapter_metadata": model.peft_config["default"].to_dict()},
    )
    return folder / "pytorch_lora_weights.safetensors"


def offload(pipe: DiffusionPipeline, kind: str) -> DiffusionPipeline:
    """With the hooks that move parts between devices, here from the CPU to the CPU."""
    if kind == "group":
        pipe.enable_group_offload(torch.device("cpu"), offload_type="leaf_level")
        return pipe
    last = None
    for part in pipe.components.values():
        if isinstance(part, nn.Module):
            _, last = accelerate.cpu_offload_with_hook(part, torch.device("cpu"), prev_module_hook=last)
    return pipe
