"""The pages' commands for models whose weights are not here, run as far as these: one sentence, and its exit code."""

from __future__ import annotations

import sys
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image

from tests.docs.blocks import PAGES, ROOT, blocks_of, command_lines
from tuner.cli import main
from tuner.errors import UsageError
from tuner.models import REGISTRY, HubWeights
from tuner.models import loading as loading_module
from tuner.models.prompts import LEAST_HELD_OUT, TUNED_ON


def model_of(call: list[str]) -> str | None:
    """The model that a command loads."""
    loads = "--model" in call and call[0] not in ("plan", "flops")
    return call[call.index("--model") + 1] if loads else None


def needs_weights(call: list[str]) -> bool:
    """Whether a command loads a model of the hub, on this machine alone."""
    model, elsewhere = model_of(call), any(word.startswith("ray://") for word in call)
    return model is not None and isinstance(REGISTRY[model].weights, HubWeights) and not elsewhere


BLOCKS = [block for page in PAGES for block in blocks_of(page) if block.language == "bash"]
CALLS = [(block, call) for block in BLOCKS for call in command_lines(block) if needs_weights(call)]
COUNT = TUNED_ON + LEAST_HELD_OUT


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that pages speak of, on a machine with a GPU, without a network and without weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loading_module, "_require_device", lambda *_: None)
    lines = [f"prompt {number}" for number in range(COUNT)]
    for name in ("FILE", "my-prompts.txt"):
        (tmp_path / name).write_text("\n".join(lines))
    (tmp_path / "photos").mkdir()
    for name in ("heron.png", "tram.jpg"):
        Image.new("RGB", (64, 48)).save(tmp_path / "photos" / name)
    (tmp_path / "my-pictures.txt").write_text("\n".join(f"photos/heron.png | {line}" for line in lines))
    imageio.imwrite(tmp_path / "a.mp4", np.zeros((81, 32, 32, 3), np.uint8), plugin="FFMPEG", fps=16)
    (tmp_path / "my-videos.txt").write_text("\n".join(f"a.mp4 | {line}" for line in lines))
    return tmp_path


def test_there_are_such_commands() -> None:
    assert any(block.page == ROOT / "README.md" for block, _ in CALLS)
    assert len({model_of(call) for _, call in CALLS}) >= 4


@pytest.mark.parametrize(("block", "call"), CALLS, ids=[f"{block} {' '.join(call)[:40]}" for block, call in CALLS])
def test_they_end_at_the_missing_weights(
    block: object, call: list[str], elsewhere: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["asymrnr-tune", *call])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err.strip()
    assert ended.value.code == UsageError.exit_code, said
    assert "Traceback" not in said
    [sentence] = [line for line in said.splitlines() if line.startswith("error:")]
    if "--workers" in call:  # looks for as many GPUs before it loads anything
        assert "GPUs here; every worker needs one of its own" in sentence
    elif "--weights" in call:
        assert "is no folder of a saved pipeline" in sentence
    else:
        assert f"The weights of {model_of(call)} (" in sentence
        assert "the hub cannot be reached or refuses them; go online, or give the folder" in sentence
