from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from asymrnr.artifact import Artifact
from asymrnr.artifact_io import CertificateWithdrawn, parse_artifact, save_artifact
from asymrnr.errors import ArtifactError
from asymrnr.hub import FILE_NAME, from_pretrained, load_pretrained, push_to_hub


class FakeHub:
    """Stands in for the hub client: one repository per name, one file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def api(self, token: str | None = None) -> FakeHub:
        self.calls.append(("login", {"token": token}))
        return self

    def create_repo(self, repo_id: str, **options: Any) -> None:
        self.calls.append(("create", {"repo_id": repo_id, **options}))
        (self.folder / repo_id).mkdir(parents=True, exist_ok=True)

    def upload_file(self, *, path_or_fileobj: bytes, path_in_repo: str, repo_id: str, commit_message: str) -> Any:
        (self.folder / repo_id / path_in_repo).write_bytes(path_or_fileobj)
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")

    def download(self, repo_id: str, filename: str, revision: str | None, token: str | None) -> str:
        self.calls.append(("download", {"revision": revision, "token": token}))
        path = self.folder / repo_id / filename
        if not path.is_file():
            raise ConnectionError("404 not found.\nSee the documentation")
        return str(path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", fake.api)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fake.download)
    return fake


def test_what_is_pushed_can_be_loaded_again(hub: FakeHub, artifact: Artifact) -> None:
    url = push_to_hub(artifact, "someone/schedules", private=True, token="t")
    assert url == "https://hub/someone/schedules/commit/1"
    assert hub.calls[0] == ("login", {"token": "t"})
    assert hub.calls[1] == ("create", {"repo_id": "someone/schedules", "private": True, "exist_ok": True})
    content = (hub.folder / "someone/schedules" / FILE_NAME).read_bytes()
    assert parse_artifact(content, FILE_NAME).certified

    schedule = from_pretrained("someone/schedules", revision="abc")
    assert schedule.content_hash() == artifact.schedule_object().content_hash()
    assert hub.calls[-1] == ("download", {"revision": "abc", "token": None})


def test_local_files_and_folders_need_no_hub(hub: FakeHub, artifact: Artifact, tmp_path: Path) -> None:
    save_artifact(artifact, tmp_path / "local" / FILE_NAME)
    for place in (tmp_path / "local", str(tmp_path / "local"), tmp_path / "local" / FILE_NAME):
        assert from_pretrained(place).seed == 7
    assert hub.calls == []
    with pytest.warns(CertificateWithdrawn):
        loaded = load_pretrained(tmp_path / "local", policy="nearest", expected={"workload": {"steps": 9}})
    assert not loaded.certified


def test_failures_are_one_sentence(hub: FakeHub, artifact: Artifact, tmp_path: Path, monkeypatch: Any) -> None:
    with pytest.raises(ArtifactError, match=r"^'someone/none' is no file here.*: 404 not found\.$"):
        from_pretrained("someone/none")
    with pytest.raises(ArtifactError, match="No such file"):
        from_pretrained(tmp_path / "none")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError("no write permission")

    monkeypatch.setattr(hub, "create_repo", refuse)
    with pytest.raises(ArtifactError, match=r"^The artifact cannot be pushed to a/b: no write permission\.$"):
        push_to_hub(artifact, "a/b")
