"""Several targets at once, from a saved profile or from a published similarity table."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from asymrnr.artifact_io import load_artifact
from asymrnr.shipped import load
from tuner import cli
from tuner.commands.solve_profile import solve_profile, space_of
from tuner.commands.solve_published import solve_published
from tuner.errors import InfeasibleError, UsageError
from tuner.latency.model import LatencyModel
from tuner.paper.architectures import ARCHITECTURES
from tuner.paper.published import FlopsSolver, proxy_error, total_flops
from tuner.profile.profile import Profile
from tuner.search.space import error_models

PAPER_MODEL = "fastvideo-hunyuan"


@pytest.fixture
def saved(profile: Profile, tmp_path: Path) -> Path:
    workload = {"frames": 13, "height": 64, "width": 64, "steps": profile.steps}
    replace(profile, workload=workload, transformer="Some").save(tmp_path / "p.safetensors")
    return tmp_path / "p.safetensors"


@pytest.fixture
def similarity(tmp_path: Path) -> Path:
    architecture = ARCHITECTURES[PAPER_MODEL]
    shape = len(architecture.blocks), architecture.steps
    rng = np.random.default_rng(0)
    save_file({name: rng.integers(architecture.tiers, size=shape) for name in "hqkv"}, tmp_path / "s.safetensors")
    return tmp_path / "s.safetensors"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["asymrnr-tune", "solve", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_a_saved_profile_says_as_much_as_the_one_in_memory(saved: Path, model: LatencyModel) -> None:
    back = Profile.load(saved)
    assert (back.latency, back.transformer) == (model, "Some")


def test_every_reachable_target_becomes_an_uncertified_artifact(
    saved: Path, profile: Profile, model: LatencyModel
) -> None:
    solved = solve_profile(saved, [1.1, 1.3, 50.0])
    assert [c is not None for c in solved.candidates] == [True, True, False]
    yardstick, errors = error_models(profile, space_of(profile))[0], []
    for target, name in ((1.1, "x1.10.json"), (1.3, "x1.30.json")):
        artifact = load_artifact(solved.folder / name)
        assert not artifact.certified
        schedule = artifact.schedule_object()
        assert model.speedup(schedule) >= target * (1 - 1e-6)
        assert artifact.prediction.speedup == pytest.approx(model.speedup(schedule), rel=1e-6)
        assert artifact.prediction.error == pytest.approx(yardstick.predict(schedule), rel=1e-6)
        assert artifact.prediction.bound <= artifact.prediction.error
        errors.append(artifact.prediction.error)
    assert 0 < errors[0] < errors[1]
    frontier = json.loads((solved.folder / "frontier.json").read_text())
    assert [row["reached"] for row in frontier["targets"]] == [True, True, False]
    assert frontier["best_attainable"] == solved.best_attainable < 50
    speeds = [point["speedup"] for point in frontier["frontier"]]
    assert speeds == sorted(speeds)
    assert max(speeds) == pytest.approx(solved.best_attainable, rel=1e-3)


def test_no_reachable_target_is_an_error_that_names_the_best(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(InfeasibleError, match=r"60x, 50x cannot be reached.* give \d\.\d\dx"):
        solve_profile(saved, [60.0, 50.0], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["frontier.json"]


def test_a_profile_without_latency_is_refused(profile: Profile, tmp_path: Path) -> None:
    replace(profile, latency=None).save(tmp_path / "old.safetensors")
    with pytest.raises(UsageError, match="no latency"):
        solve_profile(tmp_path / "old.safetensors", [1.1])


def test_targets_follow_one_flag(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--profile", saved, "--target-speedup", 1.1, 1.2, 50) == 0
    out = capsys.readouterr().out
    assert "1.2x" in out
    assert "at most" in out
    assert run(monkeypatch, "--profile", saved, "--target-speedup", 50) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["--profile", "missing.safetensors", "--target-speedup", 1.1],
        ["--profile", "missing.safetensors", "--target-speedup", 0.9],
        ["--profile", "missing.safetensors"],
        ["--target-speedup", 1.1],
        ["--profile", "p", "--similarity", "s", "--model", "mochi", "--target-speedup", 1.1],
        ["--similarity", "missing.safetensors", "--model", "mochi", "--target-speedup", 1.1],
        ["--similarity", "missing.safetensors", "--model", "nope", "--target-speedup", 1.1],
    ],
)
def test_bad_input_exits_with_2(arguments: list, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert run(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_published_tables_are_solved_by_exact_operations(similarity: Path, tmp_path: Path) -> None:
    published = solve_published(similarity, PAPER_MODEL, [1.1, 1.3, 90.0], tmp_path / "out")
    solver = published.solver
    assert published.found[90.0] is None
    for target in (1.1, 1.3):
        found = published.found[target]
        assert found is not None
        count = total_flops(solver.architecture, found.schedule)
        assert target <= solver.baseline / count < target * 1.01
        assert found.bound <= found.error <= found.bound * 1.05
        artifact = load_artifact(tmp_path / "out" / f"x{target:.2f}.json")
        assert not artifact.certified
        assert artifact.schedule_object().content_hash() == found.schedule.content_hash()
    with pytest.raises(InfeasibleError, match="fewer operations cannot be reached"):
        solve_published(similarity, PAPER_MODEL, [90.0])


@pytest.mark.parametrize("name", ["paper-base", "paper-fast"])
def test_the_bound_holds_for_the_papers_schedules(similarity: Path, name: str) -> None:
    """Their stride, cache step and rates are among what the solver may choose."""
    solver: FlopsSolver = solve_published(similarity, PAPER_MODEL, [1.1]).solver
    paper = load(PAPER_MODEL, name)
    found = solver.solve(solver.baseline / total_flops(solver.architecture, paper))
    assert found is not None
    assert found.bound <= proxy_error(paper, solver.similarity)
    assert found.ratio >= solver.baseline / total_flops(solver.architecture, paper) * (1 - 1e-9)
