"""The embedded models register themselves as any other package's would."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from tuner.embedded.entries import ENTRIES
from tuner.embedded.models import MODELS
from tuner.models import REGISTRY, ModelEntry

LIST = "from tuner.models import REGISTRY; print(*REGISTRY)"
UNKNOWN = "import sys, tuner.models; assert not [name for name in sys.modules if name.startswith('tuner.embedded')]"


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_the_registry_finds_them(entry: ModelEntry) -> None:
    assert REGISTRY[entry.name] is entry


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_videos_are_judged_by_captions_only(entry: ModelEntry) -> None:
    assert entry.attributes is not None
    with pytest.raises(ValueError, match="caption"):
        entry.attributes(torch.zeros(12, 3, 64, 64), "a cat")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_workloads_are_what_the_models_were_trained_for(entry: ModelEntry) -> None:
    model, workload = MODELS[entry.name], entry.workload
    assert (workload.frames, workload.height) == model.video()
    assert workload.width == workload.height
    assert (workload.steps, workload.guidance_scale) == (model.steps, model.guidance)
    assert workload.max_sequence_length == model.text_tokens


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_rendered_videos_are_judged_right(entry: ModelEntry) -> None:
    """With as many frames, and as large, as the model makes them."""
    model, generator = MODELS[entry.name](), torch.Generator().manual_seed(3)
    vae = model.pipeline().vae
    right: list[bool] = []
    for scene in model.world.sample(8, generator, held_out=True):
        clean = model.render([scene], range(model.world.frames), generator)
        video = vae.decode(clean.transpose(1, 2), return_dict=False)[0][0].transpose(0, 1)
        assert entry.attributes is not None
        right += entry.attributes((video / 2 + 0.5).clamp(0, 1), scene.caption).values()
    assert sum(right) >= 0.95 * len(right)


@pytest.mark.parametrize("first", ["import tuner.embedded.entries", UNKNOWN])
def test_either_may_be_imported_first(first: str) -> None:
    """And the registry's package imports the embedded one only when a model is looked up."""
    listed = subprocess.run([sys.executable, "-c", f"{first}; {LIST}"], capture_output=True, text=True, check=True)
    assert "tiny-cogvideox" in listed.stdout
