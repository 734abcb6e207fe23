"""How far every run of a plan is, on disk, so that a plan goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from asymrnr.artifact_io import load_artifact
from asymrnr.durable import write_durably
from asymrnr.errors import ArtifactError
from tuner.context import TuneOptions
from tuner.package import file_name
from tuner.report.run import REPORT_FILE
from tuner.run.store import key_hash

SUMMARY_FILE, SUMMARY_VERSION = "summary.json", 1
FINAL = (0, 3, 4, 7)  # exit codes of runs that say the same when they are asked again
Stage = Literal["waiting", "running", "certified", "not certified"]


@dataclass(frozen=True)
class State:
    """One run of a plan.

    Attributes:
        name: of its folder.
        model, workload, target: what it is of.
        asked: hash of its options; a run that is asked for otherwise starts anew where its folder allows it.
        state: how far it is.
        exit_code: of a run that ended, as `asymrnr-tune` would end with.
        message: why it has no certificate.
        speedup, low, psnr: certified speed-up, its bound (95 %) and decibels to the unaccelerated videos.
        spent: unaccelerated generations.
        report, schedule: files, relative to the folder of the plan.
    """

    name: str
    model: str
    workload: str
    target: float
    asked: str
    state: Stage = "waiting"
    exit_code: int | None = None
    message: str = ""
    speedup: float | None = None
    low: float | None = None
    psnr: float | None = None
    spent: float | None = None
    report: str | None = None
    schedule: str | None = None

    @property
    def final(self) -> bool:
        """Whether it need not be run again."""
        return self.exit_code in FINAL


def waiting(name: str, options: TuneOptions) -> State:
    """A run that has not begun."""
    asked = key_hash({k: v for k, v in options.to_dict().items() if k not in ("command", "output")})
    return State(name, options.model, str(options.model_entry().workload), options.target_speedup, asked)


def ended(state: State, options: TuneOptions, exit_code: int, message: str) -> State:
    """A run that ended, with what its folder holds."""
    folder, changes = options.output, dict[str, Any]()
    path = folder / file_name(options.target_speedup)
    if (folder / REPORT_FILE).is_file():
        changes["report"] = f"{folder.name}/{REPORT_FILE}"
    try:
        artifact = load_artifact(path)
    except ArtifactError:
        pass
    else:
        changes["schedule"] = f"{folder.name}/{path.name}"
        changes["spent"] = round(sum(row.ie or 0.0 for row in artifact.ledger), 2)
        if artifact.evidence is not None:
            speed = artifact.evidence.speedup
            changes |= {"speedup": speed.point, "low": speed.lower_bound_95}
            psnr = artifact.evidence.quality.get("psnr")
            changes["psnr"] = None if psnr is None else psnr.value
    stage: Stage = "certified" if exit_code == 0 else "not certified"
    return State(**{**asdict(state), "state": stage, "exit_code": exit_code, "message": message, **changes})


def write_summary(folder: Path, states: Mapping[str, State]) -> Path:
    """Write down all states; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SUMMARY_FILE
    content = {"version": SUMMARY_VERSION, "runs": [asdict(state) for state in states.values()]}
    write_durably(path, (json.dumps(content, indent=2) + "\n").encode())
    return path


def read_summary(folder: Path) -> dict[str, State]:
    """What an earlier call wrote down; nothing where there is nothing of use."""
    try:
        content = json.loads((folder / SUMMARY_FILE).read_text(encoding="utf-8"))
        return {run["name"]: State(**run) for run in content["runs"]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
