"""What comes with an extra is not imported without being asked for, and its absence is one sentence."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.artifact.test_extras import HIDDEN
from tuner.commands.options import PASSWORD

ROOT = Path(__file__).parents[2]
EXTRA = ("ray", "psycopg", "grpc")
DEFAULT = """
import sys, torch
import tuner.cli, tuner.pipeline, tuner.fleet.run, tuner.fleet.plan, tuner.commands.recheck
print(sorted(name for name in sys.modules if name.partition(".")[0] in {names!r} or name == "tuner.work.database"))
"""
RUN = """
import sys
from tuner.start import main
sys.argv[1:] = ["--model", "tiny-cogvideox", "--target-speedup", "1.2", "--output", {output!r}, *{options!r}]
main()
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_default_imports_none_of_it() -> None:
    done = python(DEFAULT.format(names=EXTRA))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("option", "value", "needs"),
    [("--workers", "2", "ray"), ("--store", "postgresql://me@nowhere/x", "psycopg")],
)
def test_what_is_missing_is_one_sentence(option: str, value: str, needs: str, tmp_path: Path) -> None:
    code = HIDDEN.format(names=EXTRA) + RUN.format(output=str(tmp_path / "run"), options=[option, value])
    done = python(code)
    assert done.returncode == 2, done.stderr
    says = f'error: {option} needs packages that are not installed ({needs}); pip install "asymrnr[distributed]"'
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_the_extra_is_a_part_of_what_developers_install() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert "asymrnr[distributed]" in extras["dev"]
    pins = (ROOT / "constraints.txt").read_text().lower()
    assert all(f"\n{name}==" in pins for name in ("ray", "sqlalchemy", "psycopg", "psycopg-binary", "grpcio"))


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("--store postgresql://me:secret@db:5432/x --seed 1", "--store postgresql://me:***@db:5432/x --seed 1"),
        ("--store postgresql://me@db/x", "--store postgresql://me@db/x"),
        ("--workers ray://head:10001 --prompts a@b", "--workers ray://head:10001 --prompts a@b"),
    ],
)
def test_commands_are_kept_without_passwords(typed: str, kept: str) -> None:
    assert PASSWORD.sub(r"\1***@", typed) == kept
