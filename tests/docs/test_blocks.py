"""Every code block of README and docs: Python runs, commands are understood, data can be read."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
import typer
import yaml

from tests.docs.blocks import PAGES, ROOT, Block, blocks, blocks_of, command_lines
from tuner.cli import app

READERS: dict[str, Callable[[str], Any]] = {"yaml": yaml.safe_load, "json": json.loads, "toml": tomllib.loads}
LANGUAGES = {"python", "bash", *READERS}
PYTHON_PAGES = sorted({block.page for block in blocks("python") if not block.note})
CALLS = [(block, call) for block in blocks("bash") for call in command_lines(block)]


def test_every_block_says_what_it_is() -> None:
    unknown = [str(block) for page in PAGES for block in blocks_of(page) if block.language not in LANGUAGES]
    assert unknown == []


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=lambda page: page.stem)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block after block, as a reader would."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks_of(page):
        if block.language == "python" and not block.note:
            exec(compile(block.text, str(block), "exec"), names)


def test_excerpts_are_up_to_date() -> None:
    excerpts = [block for block in blocks("python") if block.note.startswith("excerpt: ")]
    assert excerpts
    for block in excerpts:
        lines = (ROOT / block.note.removeprefix("excerpt: ")).read_text().splitlines()
        missing = [line for line in block.text.splitlines() if line and line not in lines]
        assert missing == [], block


@pytest.mark.parametrize(("block", "call"), CALLS, ids=[f"{block} {' '.join(call)[:40]}" for block, call in CALLS])
def test_commands_are_understood(block: Block, call: list[str]) -> None:
    """Options and their values are parsed as the program does, and nothing is carried out."""
    command: Any = typer.main.get_command(app)
    seen = []
    for name, verb in [("tune", command), *command.commands.items()]:
        verb.callback = partial(lambda name, **values: seen.append((name, values)), name)
    command.main(list(call), prog_name="asymrnr-tune", standalone_mode=False)
    name, values = seen[-1]
    assert name != "tune" or (values["model"] and values["target_speedup"]) or set(call) & {"-h", "--help", "--version"}


def test_commands_that_do_not_exist_are_noticed() -> None:
    with pytest.raises((click.ClickException, typer.TyperException)):
        test_commands_are_understood(CALLS[0][0], ["--model", "tiny-cogvideox", "--target", "fast"])


@pytest.mark.parametrize("language", READERS)
def test_data_can_be_read(language: str) -> None:
    for block in blocks(language):
        READERS[language](block.text)
