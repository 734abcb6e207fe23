"""Artifacts go to a hub and come back: the hub client as it is, against a small server."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import huggingface_hub
import pytest

import asymrnr
from asymrnr.artifact import Artifact
from asymrnr.artifact_io import CertificateWithdrawn, parse_artifact, save_artifact
from asymrnr.errors import ArtifactError
from asymrnr.hub import CARD_NAME, FILE_NAME, METADATA_NAME, PLOT_NAME, Place, fetch, from_pretrained, load_pretrained
from asymrnr.hub_plot import frontier_svg
from asymrnr.hub_push import contents, push_to_hub
from asymrnr.lock import load_locked, lock
from tests.artifact.hub_server import TOKEN, Hub
from tests.runtime.tiny import cogvideox_pipeline

REPO = "someone/schedules"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a/b", Place("a/b")),
        ("a/b@2", Place("a/b", "v2")),
        ("a/b@v2", Place("a/b", "v2")),
        ("a/b@0a1b", Place("a/b", "0a1b")),
        *((text, None) for text in ("a", "a/b/c", "/a/b", "./a", "a/b.json", "a/b@", "runs\n/b")),
    ],
)
def test_places_have_versions(text: str, place: Place | None) -> None:
    assert Place.parse(text) == place


def test_every_push_is_a_version_that_stays(hub: Hub, artifact: Artifact) -> None:
    first = push_to_hub(artifact, REPO, token=TOKEN)
    other = artifact.model_copy(update={"target": 1.15})
    second = push_to_hub(other, REPO, token=TOKEN)
    assert (str(first), str(second)) == (f"{REPO}@1", f"{REPO}@2")
    assert first.url == f"{hub.url}/{REPO}/commit/{first.commit}"
    kept = hub.repositories[REPO]
    assert kept.branches == {"main": second.commit, "v1": first.commit, "v2": second.commit}
    files = kept.commits[first.commit]
    assert parse_artifact(files[FILE_NAME], FILE_NAME).certified
    metadata = json.loads(files[METADATA_NAME])
    assert metadata["version"] == 1
    assert set(metadata["files"]) == {FILE_NAME, CARD_NAME, PLOT_NAME}
    assert load_pretrained(f"{REPO}@1").target == artifact.target
    assert load_pretrained(REPO).target == 1.15
    assert load_pretrained(REPO, revision=first.commit).target == artifact.target


def test_names_of_repositories_are_loaded_like_others(hub: Hub, artifact: Artifact) -> None:
    push_to_hub(artifact, REPO, token=TOKEN)
    wanted = artifact.schedule_object().content_hash()
    assert asymrnr.load(REPO).content_hash() == wanted
    assert asymrnr.load(f"{REPO}@1").content_hash() == wanted
    assert from_pretrained(f"{REPO}@1").content_hash() == wanted


def test_the_card_says_what_is_claimed_and_how_to_use_it(hub: Hub, artifact: Artifact) -> None:
    pushed = push_to_hub(artifact, REPO, token=TOKEN)
    text = hub.repositories[REPO].commits[pushed.commit][CARD_NAME].decode()
    assert artifact.evidence is not None
    speedup = artifact.evidence.speedup
    assert huggingface_hub.ModelCard(text).data.to_dict()["library_name"] == "asymrnr"
    assert f"with 95 % confidence at least {speedup.lower_bound_95:.2f}x" in text
    assert "| video | 12 frames of 64x64 pixels |" in text
    assert f'asymrnr.apply(pipe, "{REPO}@1")' in text
    assert f"asymrnr-tune pull {REPO}@1 -o schedule.json" in text


def test_the_card_shows_what_was_measured(hub: Hub, artifact: Artifact) -> None:
    pushed = push_to_hub(artifact, REPO, token=TOKEN)
    files = hub.repositories[REPO].commits[pushed.commit]
    assert f"]({PLOT_NAME})" in files[CARD_NAME].decode()
    assert ElementTree.fromstring(files[PLOT_NAME]).tag.endswith("svg")
    assert frontier_svg(artifact) == files[PLOT_NAME]
    predicted = artifact.model_copy(update={"evidence": None})
    assert frontier_svg(predicted) is None
    assert PLOT_NAME not in "".join(str(content) for content in contents(predicted, REPO, 1).values())


@pytest.mark.parametrize("name", [FILE_NAME, CARD_NAME, PLOT_NAME])
def test_a_file_that_was_tampered_with_is_refused(hub: Hub, artifact: Artifact, name: str) -> None:
    pushed = push_to_hub(artifact, REPO, token=TOKEN)
    files = hub.repositories[REPO].commits[pushed.commit]
    files[name] = files[name] + b" "
    with pytest.raises(ArtifactError, match=rf"^{name} of {REPO}@1 is not the file that was pushed"):
        load_pretrained(f"{REPO}@1")


def test_only_where_there_are_no_checksums_none_are_held_against(hub: Hub, artifact: Artifact, tmp_path: Path) -> None:
    pushed = push_to_hub(artifact, REPO, token=TOKEN)
    hub.refused.add(METADATA_NAME)
    with pytest.raises(ArtifactError, match=f"{METADATA_NAME} cannot be had from the hub: "):
        load_pretrained(REPO)
    hub.refused.clear()
    del hub.repositories[REPO].commits[pushed.commit][METADATA_NAME]  # as earlier releases pushed
    assert load_pretrained(REPO).target == artifact.target
    locked = lock([REPO], tmp_path / "a.lock")
    assert set(locked[REPO]["files"]) == {FILE_NAME}
    assert load_locked(REPO, tmp_path / "a.lock").target == artifact.target


def test_a_lock_file_needs_no_network(hub: Hub, artifact: Artifact, tmp_path: Path) -> None:
    pushed = push_to_hub(artifact, REPO, token=TOKEN)
    path = tmp_path / "asymrnr.lock"
    locked = lock([f"{REPO}@1"], path)
    assert locked[REPO]["commit"] == pushed.commit
    assert set(locked[REPO]["files"]) == {FILE_NAME, CARD_NAME, METADATA_NAME, PLOT_NAME}
    hub.close()
    asked = len(hub.asked)
    found = asymrnr.load(REPO, lock=path)
    assert found.content_hash() == artifact.schedule_object().content_hash()
    assert load_locked(f"{REPO}@1", path).target == artifact.target
    assert len(hub.asked) == asked
    with pytest.raises(ArtifactError, match=r"does not name someone/else; `asymrnr-tune lock someone/else` writes"):
        load_locked("someone/else", path)
    cached = fetch(Place(REPO, pushed.commit), offline=True).paths[CARD_NAME]
    content = cached.read_text()
    cached.unlink()
    cached.write_text(content + " ")
    with pytest.raises(ArtifactError, match=f"^{CARD_NAME} of {REPO}@{pushed.commit} is not the file that was pushed"):
        load_locked(REPO, path)
    cached.write_text(content)
    (cached.parent / FILE_NAME).unlink()
    with pytest.raises(ArtifactError, match=rf"not in the cache.*asymrnr-tune pull {REPO}@{pushed.commit}` gets it"):
        load_locked(REPO, path)


@pytest.mark.parametrize("content", ["", "[]", '{"someone/schedules": {}}', '{"someone/schedules": 3}'])
def test_a_damaged_lock_file_is_one_sentence(hub: Hub, tmp_path: Path, content: str) -> None:
    path = tmp_path / "asymrnr.lock"
    path.write_text(content)
    with pytest.raises(ArtifactError, match=r"; `asymrnr-tune lock` writes (one|another)\.$"):
        load_locked(REPO, path)


def test_local_files_and_folders_need_no_hub(hub: Hub, artifact: Artifact, tmp_path: Path) -> None:
    save_artifact(artifact, tmp_path / "local" / FILE_NAME)
    for place in (tmp_path / "local", str(tmp_path / "local"), tmp_path / "local" / FILE_NAME):
        assert from_pretrained(place).seed == 7
    assert hub.asked == []
    with pytest.warns(CertificateWithdrawn):
        loaded = load_pretrained(tmp_path / "local", policy="nearest", expected={"workload": {"steps": 9}})
    assert not loaded.certified


def test_failures_are_one_sentence(hub: Hub, artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"^'someone/none' is no file here, and .* cannot be had from the hub: "):
        from_pretrained("someone/none")
    with pytest.raises(ArtifactError, match="No such file"):
        from_pretrained(tmp_path / "none")
    with pytest.raises(ArtifactError, match=r"^The artifact cannot be pushed to someone/schedules: .*401"):
        push_to_hub(artifact, REPO)
    push_to_hub(artifact, REPO, private=True, token=TOKEN)
    with pytest.raises(ArtifactError, match=r"cannot be had from the hub: .*401"):
        from_pretrained(REPO)
    with pytest.raises(ArtifactError, match=r"cannot be had from the hub: .*404"):
        from_pretrained(f"{REPO}@7", token=TOKEN)
    hub.close()
    with pytest.raises(ArtifactError) as caught:
        from_pretrained("someone/other")
    assert "\n" not in str(caught.value)


def test_the_command_line_pushes_pulls_and_locks(
    hub: Hub, artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tuner.cli import app

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    save_artifact(artifact, tmp_path / "mine.json")
    for call in (
        ["push", str(tmp_path / "mine.json"), REPO],
        ["pull", f"{REPO}@1", "-o", str(tmp_path / "got.json")],
        ["lock", REPO, "-o", str(tmp_path / "a.lock")],
    ):
        app(call, standalone_mode=False)
    said = capsys.readouterr().out
    assert f"{REPO}@1 is out" in said
    assert "certified, version 1, commit" in said
    assert (tmp_path / "got.json").read_bytes() == hub.repositories[REPO].commits[fetch(Place(REPO)).commit][FILE_NAME]
    assert json.loads((tmp_path / "a.lock").read_text())[REPO]["version"] == 1


def test_of_all_versions_the_newest_that_fits_is_loaded(hub: Hub, artifact: Artifact, tmp_path: Path) -> None:
    for transformer, target in (("CogVideoXTransformer3DModel", 1.2), ("MochiTransformer3DModel", 1.3)):
        model = artifact.model.model_copy(update={"transformer": transformer})
        push_to_hub(artifact.model_copy(update={"model": model, "target": target}), REPO, token=TOKEN)
    pipe = cogvideox_pipeline()
    found = asymrnr.candidates(REPO, pipe)
    assert [(each.name, each.artifact.target, each.accepted) for each in found] == [
        (f"{REPO}@1", 1.2, True),
        (f"{REPO}@2", 1.3, False),
    ]
    assert [each.name for each in asymrnr.candidates(f"{REPO}@2", pipe)] == [f"{REPO}@2"]
    assert asymrnr.load(REPO, for_=pipe).content_hash() == artifact.schedule_object().content_hash()
    lock([f"{REPO}@1"], tmp_path / "a.lock")
    asked = len(hub.asked)
    assert asymrnr.load(REPO, for_=pipe, lock=tmp_path / "a.lock").seed == 7
    assert len(hub.asked) == asked
    hub.repositories.clear()
    with pytest.raises(ArtifactError, match=f"^The versions of {REPO} cannot be had from the hub: "):
        asymrnr.load(REPO, for_=pipe)
