"""The workflows and the action: what they may do, what they run, and (slow) that it runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from asymrnr.artifact_io import load_artifact

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTION = ROOT / "action.yml"
WRITES = {"id-token", "attestations"}
every_file = pytest.mark.parametrize("path", [*WORKFLOWS, ACTION], ids=lambda path: path.name)
every_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def read(path: Path) -> dict[str, Any]:
    return yaml.load(path.read_text(), Loader=yaml.BaseLoader)  # BaseLoader: "on" stays a word


def steps_of(path: Path) -> list[dict[str, Any]]:
    document = read(path)
    if "runs" in document:
        return document["runs"]["steps"]
    return [step for job in document["jobs"].values() for step in job["steps"]]


@every_file
def test_actions_are_pinned_by_commit(path: Path) -> None:
    for step in steps_of(path):
        if "uses" in step:
            assert step["uses"] == "./" or re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"])


@every_file
def test_nothing_from_outside_is_pasted_into_a_script(path: Path) -> None:
    """Inputs reach scripts as environment variables, which a shell does not read as code."""
    assert all("${{" not in step.get("run", "") for step in steps_of(path))


@every_workflow
def test_permissions_are_the_least(path: Path) -> None:
    document = read(path)
    assert document["permissions"] == {}
    for job in document["jobs"].values():
        writes = {name for name, right in job["permissions"].items() if right != "read"}
        assert job["permissions"]["contents"] == "read"
        assert writes <= WRITES
    checkouts = [step for step in steps_of(path) if "checkout" in step.get("uses", "")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] == "false" for step in checkouts)


def test_pull_requests_run_the_gate() -> None:
    document = read(ROOT / ".github" / "workflows" / "tests.yml")
    assert "pull_request" in document["on"]
    assert [step["run"] for step in steps_of(ROOT / ".github" / "workflows" / "tests.yml") if "run" in step] == [
        ".ci/run"
    ]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_whoever_starts_schedules_can_choose_the_same() -> None:
    on = read(ROOT / ".github" / "workflows" / "schedules.yml")["on"]
    assert on["workflow_call"]["inputs"].keys() == on["workflow_dispatch"]["inputs"].keys()
    assert "schedule" in on


class Shell:
    """Runs steps as a runner does: each a script of its own, with what earlier ones put out."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.summary = folder, folder / "summary.md"
        self.steps: dict[str, dict[str, str]] = {}
        self.summary.touch()

    def run(self, step: dict[str, Any], values: dict[str, str]) -> int:
        """One step; expressions in its environment are looked up in `values` and in outputs of earlier steps."""
        output = self.folder / "output.txt"
        output.write_text("")
        own = {name: self._filled(text, values) for name, text in step.get("env", {}).items()}
        paths = {"GITHUB_OUTPUT": str(output), "GITHUB_STEP_SUMMARY": str(self.summary)}
        found = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        code = subprocess.run(command, cwd=self.folder, env=os.environ | found | own | paths).returncode
        self.steps[step.get("id", "")] = dict(line.split("=", 1) for line in output.read_text().splitlines())
        return code

    def _filled(self, text: str, values: dict[str, str]) -> str:
        def value(match: re.Match[str]) -> str:
            name = match[1].strip()
            if name in values:
                return values[name]
            _, step, _, key = name.split(".")
            return self.steps.get(step, {}).get(key, "")

        return re.sub(r"\$\{\{(.*?)\}\}", value, text)


def inputs(**changed: str) -> dict[str, str]:
    defaults = {name: told.get("default", "") for name, told in read(ACTION)["inputs"].items()}
    return {f"inputs.{name.replace('_', '-')}": value for name, value in {**defaults, **changed}.items()}


def test_a_run_that_ends_early_says_so_and_fails(tmp_path: Path) -> None:
    shell, values = Shell(tmp_path), inputs(model="no-such-model")
    install, *others = steps_of(ACTION)
    assert install["name"] == "Install"
    *before, last = others
    assert all(shell.run(step, values) == 0 for step in before)
    assert shell.steps["tune"] == {"code": "2"}
    assert shell.run(last, values) == 2
    assert "ended with exit code 2 and without a schedule" in shell.summary.read_text()


@pytest.mark.slow
def test_the_action_runs_from_a_clean_clone(tmp_path: Path) -> None:
    """Every step in order, the installation included, in an environment of its own."""
    clone, environment = tmp_path / "clone", tmp_path / "environment"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    shell = Shell(tmp_path)
    values = inputs(model="tiny-cogvideox", arguments="--steps 8", **{"target-speedup": "1.1"})
    values |= {
        "github.action_path": str(clone),
        "inputs.against": str(clone / "profiles" / "tiny-cogvideox" / "8-steps.json"),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(environment / "bin" / "python"))
        patch.delenv("PYTHONPATH", raising=False)
        codes = [shell.run(step, values) for step in steps_of(ACTION)]
    outputs, artifact = shell.steps["result"], load_artifact(tmp_path / shell.steps["result"]["artifact"])
    assert codes[:-1] == [0, 0, 0]
    assert (codes[-1] == 0) == artifact.certified == (outputs["verdict"] == "certified")
    assert artifact.evidence is not None
    assert float(outputs["speedup"]) == pytest.approx(artifact.evidence.speedup.point, abs=1e-4)
    assert "1.1x" in shell.summary.read_text()
    assert (tmp_path / outputs["predicate"]).is_file()
