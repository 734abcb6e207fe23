"""Loads a model of the registry: packaged with this installation, from the hub, or from a folder of the user."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline, WanImageToVideoPipeline, WanVideoToVideoPipeline
from huggingface_hub import HfApi, constants
from safetensors import SafetensorError

from tuner.errors import UsageError
from tuner.models.backend import use_attention_backend
from tuner.models.entry import ModelEntry
from tuner.models.modify import load_loras, quantize, require_packages
from tuner.models.registry import find_model
from tuner.models.weights import MODEL_INDEX, HubWeights, PackagedWeights

Offload = Literal["none", "model", "group"]
Quantize = Literal["int8"]

NEED_FTFY = (WanImageToVideoPipeline, WanVideoToVideoPipeline)  # diffusers fails at their first prompt without it
HUB_TIMEOUT_SECONDS = 5.0
_LOADING_FAILS_WITH = (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError, SafetensorError)


@dataclass(frozen=True)
class LoadOptions:
    """How to load a model.

    Attributes:
        weights: folder of a pipeline saved with `save_pretrained`, instead of the registry's weights.
        offload: "model" keeps only the part that is running on the GPU, and the others in main memory; "group" only the
            layer that is running.
        attention_backend: what diffusers computes attention with; None leaves its default.
        lora: LoRAs to load, each a file, a folder or a repository of the hub, with its weight where it is not 1
            ("me/my-lora:0.8").
        quantize: "int8" keeps the denoiser's linear layers in 8 bits a weight (torchao, weight-only).
    """

    weights: Path | None = None
    offload: Offload = "none"
    attention_backend: str | None = None
    lora: tuple[str, ...] = ()
    quantize: Quantize | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, from which `from_dict` makes the same options again."""
        return {
            "weights": None if self.weights is None else str(self.weights.absolute()),
            "offload": self.offload,
            "attention_backend": self.attention_backend,
            "lora": list(self.lora),
            "quantize": self.quantize,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LoadOptions:
        weights, lora = values["weights"], tuple(values.get("lora", ()))  # earlier releases knew none
        return cls(**{**values, "weights": None if weights is None else Path(weights), "lora": lora})


DEFAULT = LoadOptions()


def load_pipeline(name: str, device: str = "cpu", options: LoadOptions = DEFAULT) -> DiffusionPipeline:
    """Load a model of the registry with its sampler, in its data type, ready to generate.

    Args:
        name: its name there.
        device: torch device to run on.
        options: where else to take the weights from, and how to run them.

    Raises:
        UsageError: there is no such model, its weights are nowhere to be found or damaged, the device is not there, or
            an option does not go with it. Without a network this takes seconds.
    """
    entry = find_model(name)
    _require_device(device, options.offload)
    require_packages(options.lora, options.quantize)
    if entry.pipeline in NEED_FTFY and not _has("ftfy"):
        raise UsageError(f"{name} needs the package ftfy; install asymrnr[models].")
    pipe = _load(entry, options.weights)
    if entry.scheduler is not None:
        pipe.scheduler = entry.scheduler.cls.from_config(pipe.scheduler.config, **entry.scheduler.settings)
    load_loras(pipe, options.lora)
    if options.quantize is not None:
        quantize(pipe)
    if options.attention_backend is not None:
        use_attention_backend(pipe, options.attention_backend)
    if entry.tiled_decoding:
        pipe.vae.enable_tiling()
    pipe.set_progress_bar_config(disable=True)
    if options.offload == "model":
        pipe.enable_model_cpu_offload(device=device)
        return pipe
    if options.offload == "group":
        pipe.enable_group_offload(torch.device(device), offload_type="leaf_level", use_stream=True)
        return pipe
    try:
        return pipe.to(device)
    except torch.cuda.OutOfMemoryError as error:
        raise UsageError(f"{name} does not fit into the memory of '{device}'; add --offload model or group.") from error


def _require_device(device: str, offload: Offload) -> None:
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise UsageError(f"'{device}' is not the name of a torch device; use cpu or cuda.") from error
    if kind not in ("cpu", "cuda"):
        raise UsageError(f"Device '{device}' is not supported; use cpu or cuda.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"Device '{device}' was asked for, but torch finds no GPU here; use --device cpu.")
    if offload == "none":
        return
    if kind == "cpu":
        raise UsageError("Offloading moves models between a GPU and main memory; add --device cuda.")
    if not _has("accelerate"):
        raise UsageError(f"--offload {offload} needs the package accelerate; install asymrnr[models].")


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _load(entry: ModelEntry, folder: Path | None) -> DiffusionPipeline:
    if folder is not None:
        return _from_folder(entry, folder)
    if isinstance(entry.weights, HubWeights):
        return _from_hub(entry, entry.weights)
    return _packaged(entry, entry.weights)


def _packaged(entry: ModelEntry, weights: PackagedWeights) -> DiffusionPipeline:
    if not (weights.folder / MODEL_INDEX).is_file():
        raise UsageError(f"The files of {entry.name} are missing from this installation; reinstall it.")
    with _quiet_loading():
        return entry.pipeline.from_pretrained(weights.folder).to(entry.dtype)


def _from_folder(entry: ModelEntry, folder: Path) -> DiffusionPipeline:
    index = folder / MODEL_INDEX
    try:
        saved = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"--weights {folder} is no folder of a saved pipeline: its {MODEL_INDEX} is missing or damaged; "
            "save_pretrained writes such a folder."
        ) from error
    if saved not in {cls.__name__ for cls in (entry.pipeline, entry.saved_as) if cls is not None}:
        raise UsageError(f"--weights {folder} holds a {saved}, but {entry.name} is a {entry.pipeline.__name__}.")
    variant = entry.weights.variant if isinstance(entry.weights, HubWeights) else None
    if variant is not None and not any(folder.rglob(f"*.{variant}*.safetensors")):
        variant = None
    with _failing_in_a_sentence(entry, str(folder)):
        return entry.pipeline.from_pretrained(folder, torch_dtype=_dtypes(entry), variant=variant)


def _from_hub(entry: ModelEntry, weights: HubWeights) -> DiffusionPipeline:
    repositories = [weights, *(part for _, part in entry.components.values())]
    offline = not all(map(_reachable, repositories))
    if offline:
        for repository in repositories:
            _require_cached(entry, repository)
    with _failing_in_a_sentence(entry, weights.repo):
        loaded = {
            name: cls.from_pretrained(
                part.repo,
                revision=part.revision,
                variant=part.variant,
                torch_dtype=entry.dtype,
                local_files_only=offline,
            )
            for name, (cls, part) in entry.components.items()
        }
        return entry.pipeline.from_pretrained(
            weights.repo,
            revision=weights.revision,
            variant=weights.variant,
            torch_dtype=_dtypes(entry),
            local_files_only=offline,
            **loaded,
        )


def _reachable(weights: HubWeights) -> bool:
    try:
        HfApi().model_info(weights.repo, revision=weights.revision, timeout=HUB_TIMEOUT_SECONDS)
    except Exception:  # no network, offline mode, no permission: the classes differ by release of huggingface_hub
        return False
    return True


def _require_cached(entry: ModelEntry, weights: HubWeights) -> None:
    if not weights.folder.is_dir():
        raise UsageError(
            f"The weights of {entry.name} ({weights.repo} on the Hugging Face hub) are not in the cache "
            f"{constants.HF_HUB_CACHE}, and the hub cannot be reached or refuses them; go online, or give the folder "
            "of a saved pipeline as --weights PATH."
        )


def _dtypes(entry: ModelEntry) -> torch.dtype | dict[str, torch.dtype]:
    if entry.vae_dtype is None:
        return entry.dtype
    return {"default": entry.dtype, "vae": entry.vae_dtype}


@contextmanager
def _failing_in_a_sentence(entry: ModelEntry, where: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():  # the newer name `dtype` is not known to all releases
            warnings.filterwarnings("ignore", "`torch_dtype` is deprecated", FutureWarning)
            yield
    except _LOADING_FAILS_WITH as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        advice = "" if _has("accelerate") else "; some models need the package accelerate, install asymrnr[models]"
        raise UsageError(f"The weights of {entry.name} in {where} cannot be loaded: {reason}{advice}.") from error


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """No progress bars for models that need no download, and no warning about parts that are not diffusers' own."""
    loggers = (diffusers.utils.logging, transformers.utils.logging)
    levels = [logger.get_verbosity() for logger in loggers]
    for logger in loggers:
        logger.set_verbosity_error()
        logger.disable_progress_bar()
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.set_verbosity(level)
            logger.enable_progress_bar()
