"""What the registry says of the hub's models."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import (
    CogVideoXTransformer3DModel,
    HunyuanVideoTransformer3DModel,
    LTXVideoTransformer3DModel,
    MochiTransformer3DModel,
    WanTransformer3DModel,
)
from torch import nn
from typer.testing import CliRunner

from asymrnr.resources import search_spaces_folder
from tests.pipelines.tiny_pipelines import BUILDERS, START_FROM_PICTURES, START_FROM_VIDEOS
from tuner.cli import app
from tuner.commands.models import memory
from tuner.embedded.entries import ENTRIES
from tuner.errors import UsageError
from tuner.models import REGISTRY, HubWeights
from tuner.models.figures import FIGURES
from tuner.models.registry import Registry
from tuner.search.space import load_space, load_space_of

PAPER = {  # appendix C and table 4: frames, height, width, steps
    "cogvideox-2b": (49, 480, 720, 50),
    "cogvideox-5b": (49, 480, 720, 50),
    "mochi": (85, 480, 848, 30),
    "hunyuanvideo": (129, 544, 960, 30),
    "fastvideo-hunyuan": (65, 720, 1280, 6),
    "animatediff": (16, 512, 512, 50),
}


def test_every_hub_model_has_a_tiny_pipeline() -> None:
    assert {*BUILDERS, *START_FROM_PICTURES, *START_FROM_VIDEOS} == {
        name for name, entry in REGISTRY.items() if isinstance(entry.weights, HubWeights)
    }


@pytest.mark.parametrize("name", [*BUILDERS, *START_FROM_PICTURES, *START_FROM_VIDEOS])
def test_entries_are_complete(name: str) -> None:
    entry = REGISTRY[name]
    assert entry.name == name
    repositories = [entry.weights, *(weights for _, weights in entry.components.values())]
    for weights in repositories:
        assert isinstance(weights, HubWeights)
        assert re.fullmatch(r"[0-9a-f]{40}", weights.revision)
    space = load_space(search_spaces_folder() / entry.search_space)
    assert load_space_of(entry) == space  # written for so many steps
    assert 2 * space.protected_steps < entry.workload.steps
    accepted = inspect.signature(entry.pipeline.__call__).parameters
    needed = {"height", "width", "num_inference_steps", "guidance_scale", "callback_on_step_end"}
    needed |= {"video", "strength"} if entry.starts_from == "video" else {"num_frames"}
    assert needed <= set(accepted)


@pytest.mark.parametrize("name", PAPER)
def test_workloads_are_those_of_the_paper(name: str) -> None:
    workload = REGISTRY[name].workload
    assert (workload.frames, workload.height, workload.width, workload.steps) == PAPER[name]


@pytest.mark.parametrize("name", BUILDERS)
def test_no_prompt_is_both_tuned_and_certified_on(name: str) -> None:
    entry = REGISTRY[name]
    tuning, held_out = entry.tuning_prompts(2), entry.held_out_prompts(12)
    assert len({*tuning, *held_out}) == 14
    assert entry.held_out_prompts(2) == held_out[:2]
    with pytest.raises(UsageError, match="only 24 are there"):
        entry.held_out_prompts(25)


def test_the_command_line_lists_them_all() -> None:
    listed = CliRunner().invoke(app, ["models"], env={"COLUMNS": "200"})
    assert listed.exit_code == 0
    for name in REGISTRY:
        assert name in listed.output


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("cogvideox-2b", CogVideoXTransformer3DModel),
        ("mochi", MochiTransformer3DModel),
        ("hunyuanvideo", HunyuanVideoTransformer3DModel),
        ("wan-1.3b", lambda: WanTransformer3DModel(num_attention_heads=12, num_layers=30, ffn_dim=8960)),
        ("wan-14b-i2v", lambda: WanTransformer3DModel(in_channels=36, image_dim=1280, added_kv_proj_dim=5120)),
        ("ltx-video", LTXVideoTransformer3DModel),
    ],
)
def test_the_size_of_a_denoiser_is_that_of_its_class(name: str, build: Callable[[], nn.Module]) -> None:
    with torch.device("meta"):
        parameters = sum(weight.numel() for weight in build().parameters())
    assert FIGURES[name].denoiser == pytest.approx(parameters / 1e9, abs=5e-4)
    gigabytes = parameters * REGISTRY[name].dtype.itemsize / 1e9
    assert f"{gigabytes:.1f} GB of denoiser" in memory(REGISTRY[name])[0]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a package on the path whose module `house_models` has this text and registers its ENTRIES."""

    def write(text: str) -> None:
        (tmp_path / "house_models.py").write_text(text)
        about = tmp_path / "house-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: house\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text("[asymrnr.models]\nours = house_models:ENTRIES\n")
        monkeypatch.syspath_prepend(tmp_path)

    yield write
    sys.modules.pop("house_models", None)


def test_packages_register_models(install) -> None:
    install(
        "from dataclasses import replace\n"
        "from tuner.models.hub import ENTRIES as HUB\n"
        "ENTRIES = [replace(HUB[0], name='house-video')]\n"
    )
    registry = Registry([REGISTRY["mochi"]])
    assert set(registry) == {"mochi", *(entry.name for entry in ENTRIES), "house-video"}
    assert registry["house-video"].name == "house-video"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import no_such_module", "no_such_module"),
        ("", "ENTRIES"),
        ("ENTRIES = ['mochi']", "no sequence of ModelEntry"),
        ("ENTRIES = None", "not iterable"),
        ("from tuner.models.hub import ENTRIES", "there is a model 'cogvideox-2b' already"),
    ],
)
def test_a_broken_package_is_named_in_one_sentence(text: str, reason: str, install) -> None:
    install(text)
    with pytest.raises(UsageError, match=rf"^The models that the package house registers [^\n]*{reason}[^\n]*$"):
        len(Registry([REGISTRY["cogvideox-2b"]]))
