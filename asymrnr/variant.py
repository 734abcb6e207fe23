"""What was done to a model after its weights were loaded: adapters such as LoRA, quantisation, offloading, sharding.

All of it is read from the model itself, so that it is known however it was done.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from asymrnr.errors import InterceptionError
from asymrnr.install import base_model
from asymrnr.target import denoisers

SCALE_DECIMALS = 6


@dataclass(frozen=True)
class Variant:
    """How a model differs from its weights, and where they are kept.

    Attributes:
        adapters: scale of every active adapter of the denoisers and text encoders, by the SHA-256 (hex) of its weights.
            The scale is what its product is multiplied by: its weight, times alpha over the rank.
        quantization: package and class of the denoisers' quantised weights, such as "torchao.Int8Tensor"; None where
            they are plain tensors.
        offload: "model", "sequential" or "group", as diffusers calls it; None where the weights stay on the device.
        parallel: how attention is spread over devices, such as "ulysses 2"; None for one device.
    """

    adapters: Mapping[str, float] = field(default_factory=dict)
    quantization: str | None = None
    offload: str | None = None
    parallel: str | None = None

    @classmethod
    def of(cls, target: Any) -> Variant:
        """Of a diffusers pipeline or denoiser.

        Raises:
            InterceptionError: there is no denoiser, or an adapter's weights are not in memory.
        """
        models = [base_model(model) for model in denoisers(target)]
        parts = getattr(target, "components", {})
        others = [part for part in parts.values() if isinstance(part, nn.Module) and part not in models]
        return cls(
            _adapters([*models, *others]), _quantization(models), _offload([*models, *others]), _parallel(models)
        )

    def as_dict(self) -> dict[str, Any]:
        """The attributes that say anything, as plain values."""
        values = {**vars(self), "adapters": dict(self.adapters)}
        return {name: value for name, value in values.items() if value}


def _adapters(models: list[nn.Module]) -> dict[str, float]:
    if "peft" not in sys.modules:  # nothing else loads adapters
        return {}
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: dict[str, list[tuple[str, BaseTunerLayer]]] = {}
    for number, model in enumerate(models):
        for name, module in model.named_modules():
            if isinstance(module, BaseTunerLayer) and not module.disable_adapters:
                present = {adapter for kind in module.adapter_layer_names for adapter in getattr(module, kind, {})}
                for adapter in present & {*module.active_adapters, *module.merged_adapters}:
                    layers.setdefault(adapter, []).append((f"{number}.{name}", module))
    found: dict[str, float] = {}
    for adapter, modules in layers.items():
        scales = {name: float(getattr(module, "scaling", {}).get(adapter, 1.0)) for name, module in modules}
        most = max(map(abs, scales.values()))
        if most == 0:
            continue
        digest = hashlib.sha256()
        for name, module in sorted(modules, key=lambda layer: layer[0]):
            digest.update(f"{name} {round(scales[name] / most, SCALE_DECIMALS)}\n".encode())
            for kind in module.adapter_layer_names:
                weights = getattr(module, kind, {})
                if adapter in weights:
                    _add_weights(digest, kind, weights[adapter])
        found[digest.hexdigest()] = round(most, SCALE_DECIMALS)
    return found


def _add_weights(digest: Any, kind: str, weights: nn.Module | torch.Tensor) -> None:
    tensors = weights.state_dict() if isinstance(weights, nn.Module) else {"": weights}
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise InterceptionError("The weights of an adapter are not in memory; load it before offloading the model.")
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{kind}.{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.view(torch.uint8).numpy().tobytes())


def _quantization(models: list[nn.Module]) -> str | None:
    tensors = [tensor for model in models for tensor in (*model.parameters(), *model.buffers())]
    kinds = {type(tensor.data) for tensor in tensors} | {type(tensor) for tensor in tensors}
    names = {
        f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        for kind in kinds
        if kind.__module__.partition(".")[0] != "torch"
    }
    quantizers: list[Any] = [getattr(model, "hf_quantizer", None) for model in models]
    methods = {str(one.quantization_config.quant_method) for one in quantizers if one is not None}
    return ", ".join(sorted(names or methods)) or None


def _offload(models: list[nn.Module]) -> str | None:
    kinds: set[str] = set()
    for module in (module for model in models for module in model.modules()):
        registry, hook = getattr(module, "_diffusers_hook", None), getattr(module, "_hf_hook", None)
        if registry is not None and "group_offloading" in registry.hooks:
            kinds.add("group")
        for one in getattr(hook, "hooks", (hook,)):
            if type(one).__name__ == "CpuOffload":
                kinds.add("model")
            elif getattr(one, "offload", False):
                kinds.add("sequential")
    return ", ".join(sorted(kinds)) or None


def _parallel(models: list[nn.Module]) -> str | None:
    found = set()
    for model in models:
        context = getattr(getattr(model, "_parallel_config", None), "context_parallel_config", None)
        for kind in ("ring", "ulysses"):
            degree = getattr(context, f"{kind}_degree", None) or 1
            if degree > 1:
                found.add(f"{kind} {degree}")
    return ", ".join(sorted(found)) or None
