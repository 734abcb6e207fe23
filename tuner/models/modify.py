"""What is done to a pipeline between loading its weights and using them: LoRAs and quantisation."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from diffusers import DiffusionPipeline
from torch import nn

from tuner.errors import UsageError
from tuner.models.backend import denoisers

NEEDED = {"--lora": "peft", "--quantize": "torchao"}


def require_packages(loras: Sequence[str], quantization: str | None) -> None:
    """LoRAs and quantisation need a package each, which not everybody has.

    Raises:
        UsageError: one is missing; or a LoRA is written wrongly.
    """
    for option, wanted in (("--lora", loras), ("--quantize", quantization)):
        if wanted and importlib.util.find_spec(NEEDED[option]) is None:
            raise UsageError(f"{option} needs the package {NEEDED[option]}; install asymrnr[models].")
    for lora in loras:
        split_lora(lora)


def split_lora(lora: str) -> tuple[str, float]:
    """Where a LoRA is and its weight, of PATH_OR_REPOSITORY[:WEIGHT].

    Raises:
        UsageError: the weight is no number.
    """
    if Path(lora).exists():  # names of files may have a colon
        return lora, 1.0
    source, colon, weight = lora.rpartition(":")
    if not colon or len(source) <= 1:  # a drive's letter is no source
        return lora, 1.0
    try:
        return source, float(weight)
    except ValueError:
        raise UsageError(f"--lora {lora} ends in '{weight}', which is no weight; write SOURCE:0.8.") from None


def load_loras(pipe: DiffusionPipeline, loras: Sequence[str]) -> None:
    """Load LoRAs next to each other, with their weights.

    Raises:
        UsageError: the pipeline takes none, or one cannot be loaded or changes nothing.
    """
    if not loras:
        return
    if not hasattr(pipe, "load_lora_weights"):
        raise UsageError(f"diffusers loads no LoRA into a {type(pipe).__name__}; leave --lora out.")
    weights: dict[str, float] = {}
    for number, lora in enumerate(loras):
        name = f"lora_{number}"
        source, weights[name] = split_lora(lora)
        try:
            pipe.load_lora_weights(**_location(source), adapter_name=name, use_safetensors=True)
        except Exception as error:  # of diffusers, peft, safetensors and the hub, each of many kinds
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise UsageError(f"The LoRA {source} cannot be loaded into a {type(pipe).__name__}: {reason}.") from error
        if not any(name in adapters for adapters in pipe.get_list_adapters().values()):
            raise UsageError(f"The LoRA {source} has no weights for a {type(pipe).__name__}.")
    pipe.set_adapters(list(weights), list(weights.values()))


def _location(source: str) -> dict[str, str]:
    """A single file's folder and name, as diffusers wants them, or what was given."""
    path = Path(source)
    where = "pretrained_model_name_or_path_or_dict"
    return {where: str(path.parent), "weight_name": path.name} if path.is_file() else {where: source}


def quantize(pipe: DiffusionPipeline) -> None:
    """Keep the linear layers of the denoisers in 8 bits a weight, those of LoRAs as they are."""
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    def is_base(module: nn.Module, name: str) -> bool:
        return isinstance(module, nn.Linear) and "lora_" not in name

    for model in denoisers(pipe):
        quantize_(model, Int8WeightOnlyConfig(), filter_fn=is_base)
