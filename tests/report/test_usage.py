"""The lines that a report tells people to copy do what they say."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

import asymrnr.resources as resources
from tuner.cli import app
from tuner.context import TuneOptions
from tuner.models import LoadOptions, find_model
from tuner.package import file_name
from tuner.report.usage import snippets

PROMPT = "a red circle moving slowly left on a plain black background"


def _snippets(prompt: str = PROMPT, **options: Any) -> dict[str, str]:
    asked = TuneOptions(**{"model": "tiny-cogvideox", "target_speedup": 1.2, "output": Path("run"), **options})
    ctx: Any = SimpleNamespace(options=asked, entry=find_model(asked.model).with_workload(steps=8))
    return snippets(ctx, prompt)


def test_the_python_lines_generate_with_the_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(resources.profiles_folder() / "tiny-cogvideox" / "8-steps.json", tmp_path / file_name(1.2))
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(_snippets()["Python"], found)
    assert len(found["frames"]) == 12
    assert "sites" in capsys.readouterr().out


def test_the_python_lines_say_how_the_model_was_loaded() -> None:
    text = _snippets(device="cuda", load=LoadOptions(Path("my weights"), "model", "flash"))["Python"]
    compile(text, "snippet", "exec")
    assert 'load_pipeline("tiny-cogvideox", "cuda", LoadOptions(Path("my weights"), "model", "flash"))' in text
    assert 'load_pipeline("tiny-cogvideox")' in _snippets()["Python"]


def test_the_shell_line_is_a_command() -> None:
    prompt = 'it\'s "quoted" $HOME'
    load = LoadOptions(Path("my weights"), "model", "flash")
    text = _snippets(prompt, device="cuda", load=load)["Shell"]
    name, verb, *arguments = shlex.split(text)
    assert name == "asymrnr-tune"
    group: Any = typer.main.get_command(app)
    given = group.commands[verb].make_context(verb, arguments).params
    assert (given["model"], given["prompt"], given["schedule"]) == ("tiny-cogvideox", prompt, "x1.20.json")
    assert (given["device"], str(given["weights"]), given["attention_backend"]) == ("cuda", "my weights", "flash")
    assert str(given["offload"].value) == "model"
