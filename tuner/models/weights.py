"""Where a model's weights are, and which weights a measurement was made with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from diffusers import DiffusionPipeline
from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

MODEL_INDEX = "model_index.json"
SAMPLES, SAMPLE_BYTES = 64, 1 << 16


@dataclass(frozen=True)
class PackagedWeights:
    """A pipeline that comes with this installation.

    Attributes:
        folder: where it was saved to.
    """

    folder: Path


@dataclass(frozen=True)
class HubWeights:
    """A repository on the Hugging Face hub.

    Attributes:
        repo: its id, "owner/name".
        revision: the commit. The commits in the registry were read from public projects that pin or cache them (each
            from two or more, which agree), not from the hub itself.
        variant: which of the repository's sets of weights, where it has several ("bf16").
    """

    repo: str
    revision: str
    variant: str | None = None

    @property
    def folder(self) -> Path:
        """Where the hub's cache keeps it; exists once it was downloaded."""
        cache = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=self.repo, repo_type="model")
        return cache / "snapshots" / self.revision

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"


def weights_status(weights: PackagedWeights | HubWeights) -> str:
    """Whether the weights are on this machine, in a few words."""
    there = (weights.folder / MODEL_INDEX).is_file()
    if isinstance(weights, PackagedWeights):
        return "packaged" if there else "missing"
    return f"{weights.repo}, {'downloaded' if there else 'not downloaded'}"


def weights_identity(pipe: DiffusionPipeline, weights: PackagedWeights | HubWeights) -> str:
    """What tells the weights of a loaded pipeline from others.

    Args:
        pipe: the pipeline.
        weights: what its registry entry names.

    Returns:
        "owner/name@revision" for a pipeline from the hub; a SHA-256 over its files for one from a folder; "unsaved" for
        one that was never loaded.
    """
    origin = pipe.config.get("_name_or_path")
    if not origin:
        return "unsaved"
    if Path(origin).is_dir():
        return folder_hash(Path(origin))
    return str(weights) if isinstance(weights, HubWeights) else origin


def folder_hash(folder: Path) -> str:
    """SHA-256 over names, sizes and contents of a saved pipeline's configurations and weights.

    Of files larger than 4 MiB only 64 evenly spaced samples of 64 KiB are read: tens of gigabytes would take minutes,
    and retrained weights differ everywhere.
    """
    digest = hashlib.sha256()
    files = (f for f in folder.rglob("*") if f.is_file() and f.suffix in {".json", ".safetensors", ".bin"})
    for file in sorted(files):
        size = file.stat().st_size
        digest.update(f"{file.relative_to(folder).as_posix()}:{size}\n".encode())
        with file.open("rb") as stream:
            if size <= SAMPLES * SAMPLE_BYTES:
                digest.update(stream.read())
                continue
            for sample in range(SAMPLES):
                stream.seek(sample * (size - SAMPLE_BYTES) // (SAMPLES - 1))
                digest.update(stream.read(SAMPLE_BYTES))
    return digest.hexdigest()
