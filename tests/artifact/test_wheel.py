from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import asymrnr.resources as resources

ROOT = Path(resources.__file__).resolve().parents[1]


@pytest.mark.slow
def test_the_wheel_carries_the_profiles_search_spaces_and_package_data(tmp_path: Path) -> None:
    """Needs a package index for the build backend."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    (tmp_path / "site").mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in tracked.stdout.splitlines():
        top = Path(name).parts[0]
        if top in ("asymrnr", "tuner"):
            assert (tmp_path / "site" / name).is_file(), f"{name} is missing from the wheel"
        elif top in ("profiles", "search_spaces"):
            assert (tmp_path / "site" / "asymrnr" / "_data" / name).is_file(), f"{name} is missing from the wheel"
    code = "from asymrnr.resources import *; print(profiles_folder(), search_spaces_folder(), sep='\\n')"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "site", check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert found == [str(tmp_path / "site" / "asymrnr" / "_data" / each) for each in ("profiles", "search_spaces")]
