"""What a measurement depends on: hardware, threads and library versions."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from asymrnr.differences import differences

__all__ = ["differences", "environment"]

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
