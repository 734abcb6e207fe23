"""Starts Ray on this machine, or joins a cluster, and says how many workers of which kind there is room for."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import torch

from tuner.errors import UsageError

REMOTE, KIND = "ray://", "kind"
MOST = 256  # workers that are started here
TEMPORARY = "asymrnr-ray-"  # begins the name of Ray's folder; sockets lie in it, so the name is short
RESOURCE = "asymrnr_"


@dataclass(frozen=True)
class Room:
    """Where workers can be.

    Attributes:
        workers: how many there is room for.
        resource: Ray's name of what each of them takes one of.
        gpus: GPUs that each takes.
        local: they are on this machine, and end with this process.
    """

    workers: int
    resource: str
    gpus: int
    local: bool


def require_extra(option: str, *modules: str) -> None:
    """What comes with the extra must be installed.

    Raises:
        UsageError: it is not.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"{option} needs packages that are not installed ({', '.join(missing)}); "
            'pip install "asymrnr[distributed]" brings them.'
        )


def open_room(workers: str, device: str) -> Room:
    """Start Ray here, or join a cluster.

    Args:
        workers: a number, or ray://HOST:PORT, where ?kind=NAME asks for nodes that offer asymrnr_NAME.
        device: torch device of the workers.

    Raises:
        UsageError: it is neither, cannot be had, or Ray is not installed.
    """
    require_extra("--workers", "ray")
    kind = torch.device(device).type
    if workers.startswith(REMOTE):
        return _join(workers, kind)
    try:
        count = int(workers)
    except ValueError:
        count = 0
    if not 1 <= count <= MOST:
        raise UsageError(f"--workers is {workers}; give a number from 1 to {MOST}, or ray://HOST:PORT.")
    gpus = torch.cuda.device_count() if kind == "cuda" else 0
    if kind == "cuda" and count > gpus:
        raise UsageError(f"--workers is {count}, but there are {gpus} GPUs here; every worker needs one of its own.")
    import ray

    if not ray.is_initialized():
        _forget_dead()
        folder = tempfile.mkdtemp(prefix=f"{TEMPORARY}{os.getpid()}-")
        ray.init(
            address="local",
            num_cpus=max(count, os.cpu_count() or 1),
            num_gpus=gpus,
            resources={RESOURCE + kind: MOST},
            _temp_dir=folder,
            **_quiet(),
        )
    return Room(count, RESOURCE + kind, int(kind == "cuda"), local=True)


def _join(address: str, device: str) -> Room:
    parts = urlsplit(address)
    kind = parse_qs(parts.query).get(KIND, [device])[0]
    resource = RESOURCE + kind
    require_extra("--workers ray://", "grpc")
    import ray

    try:
        if not ray.is_initialized():
            ray.init(f"{REMOTE}{parts.netloc}", **_quiet())
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        reason = (str(error).strip().splitlines() or ["no answer"])[0].rstrip(".")
        raise UsageError(f"The Ray cluster at {parts.netloc} cannot be joined: {reason}.") from error
    there: Mapping[str, float] = ray.cluster_resources()
    count = int(there.get(resource, 0))
    if count < 1:
        raise UsageError(
            f"No node of the Ray cluster at {parts.netloc} offers '{resource}'; start every node with "
            f"--resources='{{\"{resource}\": N}}', where N is the number of its workers."
        )
    return Room(count, resource, int(device == "cuda"), local=False)


def leave(room: Room) -> None:
    """End what was started here, or leave the cluster; nothing stays behind."""
    import ray

    ray.shutdown()
    if room.local:
        for folder in Path(tempfile.gettempdir()).glob(f"{TEMPORARY}{os.getpid()}-*"):
            shutil.rmtree(folder, ignore_errors=True)


def _quiet() -> dict[str, Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    return {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}


def _forget_dead() -> None:
    """Remove the folders of runs that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{TEMPORARY}*"):
        with suppress(ValueError, IndexError, PermissionError):
            process = int(folder.name.removeprefix(TEMPORARY).split("-")[0])
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                shutil.rmtree(folder, ignore_errors=True)
