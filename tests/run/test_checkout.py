"""A run says which commit of the project it was made with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tuner.run.checkout import checkout


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=Someone", "-c", "user.email=someone@example.org"]
    return subprocess.run(["git", "-C", folder, *who, *arguments], capture_output=True, text=True, check=True).stdout


def test_the_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-q", "-m", "first")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    (tmp_path / "runs").write_text("unknown to git")
    assert checkout(tmp_path) == {"commit": commit, "dirty": False}
    (tmp_path / "code.py").write_text("2\n")
    assert checkout(tmp_path) == {"commit": commit, "dirty": True}


def test_elsewhere_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkout(tmp_path) == {}
    git(tmp_path, "init", "-q")  # without a commit
    assert checkout(tmp_path) == {}
    monkeypatch.setenv("PATH", "")
    assert checkout(tmp_path) == {}
