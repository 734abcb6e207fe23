from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import asymrnr.find as find
import asymrnr.resources as resources
from asymrnr.artifact import Artifact
from asymrnr.artifact_io import load_artifact, save_artifact
from asymrnr.errors import ArtifactError
from asymrnr.find import available_profiles
from asymrnr.shipped import load, load_shipped


@pytest.fixture
def profiles(document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Profiles of two models: mochi with an uncertified, then two certified ones; paper with uncertified ones only."""
    folder = tmp_path / "profiles"
    uncertified = {**document, "evidence": None, "gates": []}
    for name, content, seed in [
        ("mochi/base", uncertified, 1),
        ("mochi/x1.10", document, 2),
        ("mochi/x1.20", document, 3),
        ("paper/base", uncertified, 4),
        ("paper/fast", uncertified, 5),
    ]:
        schedule = {**document["schedule"], "seed": seed}
        save_artifact(Artifact.model_validate({**content, "schedule": schedule}), folder / f"{name}.json")
    (folder / "README.md").write_text("not a profile")
    save_artifact(Artifact.model_validate(document), tmp_path / "outside.json")
    monkeypatch.setattr(find, "profiles_folder", lambda: folder)
    return folder


@pytest.mark.parametrize(
    ("name", "target", "seed"),
    [("mochi", None, 2), ("mochi", "x1.20", 3), ("mochi", "base", 1), ("paper", None, 4), ("paper", "fast", 5)],
)
def test_profiles_are_found_by_name_and_target(profiles: Path, name: str, target: str | None, seed: int) -> None:
    assert load(name, target).seed == seed
    assert load_shipped(name, target).schedule.seed == seed


def test_what_there_is_is_listed(profiles: Path) -> None:
    assert available_profiles() == {"mochi": ["base", "x1.10", "x1.20"], "paper": ["base", "fast"]}
    extra = profiles / "mochi" / "x1.20-with-cache.json"
    extra.write_bytes((profiles / "mochi" / "x1.20.json").read_bytes())
    assert available_profiles()["mochi"] == ["base", "x1.10", "x1.20", "x1.20-with-cache"]
    extra.unlink()
    with pytest.raises(ArtifactError, match="'sora'; there are profiles for mochi, paper"):
        load("sora")
    with pytest.raises(ArtifactError, match=r"'x9\.9' for 'mochi'; there are base, x1\.10, x1\.20"):
        load("mochi", "x9.9")


def test_without_any_profile_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "profiles_folder", lambda: tmp_path / "nothing")
    with pytest.raises(ArtifactError, match="ships none"):
        load("mochi")


def test_files_are_loaded_by_path(profiles: Path) -> None:
    path = profiles / "mochi" / "x1.20.json"
    assert load(path).seed == load(str(path)).seed == 3
    with pytest.raises(ArtifactError, match="goes with a model's name"):
        load(path, "x1.20")
    with pytest.raises(ArtifactError, match="No such file"):
        load("missing.json")


@pytest.mark.parametrize(
    "name",
    [
        "..",
        ".",
        "",
        "../outside",
        "mochi/../paper",
        "mochi/base/x",
        "mochi\\base",
        "/etc",
        "~",
        "mochi\0",
        "mochi\n",
        "*",
    ],
)
def test_names_cannot_lead_out_of_the_folder(profiles: Path, name: str) -> None:
    with pytest.raises(ArtifactError, match="is not the name of a profile"):
        load(name)
    with pytest.raises(ArtifactError, match="is not the name of a profile"):
        load("mochi", name)


def test_a_checkout_reads_the_top_level_folders() -> None:
    top = Path(resources.__file__).resolve().parents[1]
    assert resources.profiles_folder() == top / "profiles"
    assert resources.search_spaces_folder() == top / "search_spaces"


def test_a_wheel_reads_the_folders_inside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site-packages" / "asymrnr"
    (package / "_data" / "profiles").mkdir(parents=True)
    (package / "_data" / "search_spaces").mkdir()
    (tmp_path / "site-packages" / "profiles").mkdir()  # of some other distribution
    monkeypatch.setattr(resources, "_PACKAGE", package)
    assert resources.profiles_folder() == package / "_data" / "profiles"
    assert resources.search_spaces_folder() == package / "_data" / "search_spaces"


def test_every_profile_in_this_repository_is_whole() -> None:
    for path in resources.profiles_folder().glob("**/*.json"):
        assert path.parent.parent == resources.profiles_folder(), f"{path} must be profiles/<model>/<target>.json"
        assert load_artifact(path).schedule_object().blocks > 0
