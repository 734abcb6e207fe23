"""The page about what is supported knows every video denoiser that diffusers has."""

from __future__ import annotations

import inspect
from pathlib import Path

import diffusers
import pytest

from asymrnr.adapters import known_denoisers

PAGE = Path(__file__).parents[2] / "docs" / "support.md"
UNETS = ("UNetMotionModel", "UNet3DConditionModel", "UNetSpatioTemporalConditionModel", "I2VGenXLUNet")


def video_denoisers() -> list[str]:
    """Classes of diffusers that denoise videos, by how they are called."""
    names = (name for name in dir(diffusers) if name.endswith(("Transformer3DModel", "OmniTransformer")))
    return [*(name for name in names if inspect.isclass(getattr(diffusers, name))), *UNETS]


@pytest.mark.parametrize("name", video_denoisers())
def test_every_video_denoiser_has_a_row(name: str) -> None:
    [row] = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and name in line]
    verdict = row.split("|")[-2].strip()
    assert verdict.startswith("no") != (name in known_denoisers())


def test_denoisers_are_looked_for_by_how_they_are_called() -> None:
    of_diffusers = {name for name in known_denoisers() if hasattr(diffusers, name)}
    assert of_diffusers <= set(video_denoisers())
