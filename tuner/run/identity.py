"""What a measurement depends on, in one place: machine, libraries, weights, workload and how they are run."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from asymrnr.differences import differences
from asymrnr.variant import Variant
from tuner.models import attention_backend_of, weights_identity
from tuner.models.images import hashes
from tuner.run.runner import Runner

__all__ = ["ENVIRONMENT_KEY", "describe_workload", "differences", "environment", "subject"]

INPUTS = {"picture": "images", "video": "videos"}
ENVIRONMENT_KEY = {"kind": "environment"}
_LIBRARIES = ("asymrnr", "diffusers", "transformers")


def environment() -> dict[str, Any]:
    """Describe this machine and installation as plain values.

    Returns:
        python, platform, cpu, cpu_count, threads (of torch), torch, cuda and gpu (None without one), and the versions
        of asymrnr, diffusers and transformers (None where not installed).
    """
    has_gpu = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if has_gpu else None,
        "cuda": torch.version.cuda if has_gpu else None,
        "torch": str(torch.__version__),
        **{name: _version(name) for name in _LIBRARIES},
    }


def describe_workload(runner: Runner) -> dict[str, Any]:
    """Entries of an artifact's `WorkloadSection`: sizes, steps, guidance, sampler, data type, attention backend, and
    what there is of adapters, quantisation, offloading and sharding."""
    return {
        **runner.entry.workload.as_dict(),
        "scheduler": type(runner.pipe.scheduler).__name__,
        "dtype": str(runner.denoiser.dtype).removeprefix("torch."),
        "attention_backend": attention_backend_of(runner.pipe),
        **Variant.of(runner.pipe).as_dict(),
    }


def subject(runner: Runner) -> dict[str, Any]:
    """What is measured: part of every measurement's key, and enough to package a result without loading the model.

    Returns:
        model, weights, transformer (class of the denoiser), workload (see `describe_workload`), device, and of models
        that start from pictures or videos the sha256 of each by its prompt.
    """
    entry, kind = runner.entry, runner.entry.starts_from
    files = {} if kind is None else {INPUTS[kind]: hashes(entry.files, kind, entry.workload.frames)}
    return {
        "model": runner.entry.name,
        "weights": weights_identity(runner.pipe, runner.entry.weights),
        "transformer": type(runner.denoiser).__name__,
        "workload": describe_workload(runner),
        "device": str(runner.device),
        **files,
    }


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    """The processor's model name; Linux names it in /proc/cpuinfo, elsewhere platform has to do."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
