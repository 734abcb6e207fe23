"""Solves a saved profile for several target speed-ups and writes what was found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from asymrnr.artifact import Artifact
from asymrnr.artifact_io import save_artifact
from asymrnr.sections import ProvenanceSection, ScheduleSection, WorkloadSection
from tuner.commands.validation import make_folder
from tuner.errors import InfeasibleError, UsageError
from tuner.latency.model import LatencyModel
from tuner.package import file_name, model_section, prediction_section, similarity_section
from tuner.profile.profile import Profile
from tuner.search.feasibility import best_attainable, profiled
from tuner.search.result import Candidate
from tuner.search.space import SearchSpace, error_models
from tuner.search.table import TableSolver
from tuner.search.targets import solve_targets
from tuner.stages.preflight import FRONTIER_FILE
from tuner.strides import stride_name

SOURCE = "Solved from a saved profile; predicted only, neither measured nor certified."


@dataclass(frozen=True)
class Solved:
    """The answer to several targets.

    Attributes:
        targets: speed-ups asked for.
        candidates: the best table of each target; None where it is out of reach.
        best_attainable: highest predicted speed-up of the profile.
        folder: where the artifacts and the frontier were written.
    """

    targets: Sequence[float]
    candidates: list[Candidate | None]
    best_attainable: float
    folder: Path


def space_of(profile: Profile) -> SearchSpace:
    """Every stride, cache step and rate that was profiled."""
    strides, steps = (dict.fromkeys(key[i] for key in profile.q_error) for i in range(2))
    return SearchSpace.model_validate({"strides": [*strides], "cache_steps": [*steps], "rates": profile.rates.tolist()})


def model_of(profile: Profile) -> LatencyModel:
    """The latency model of the machine that was profiled.

    Raises:
        UsageError: the profile holds no latency.
    """
    if profile.latency is None:
        raise UsageError("The profile holds no latency of its machine; profile the model again with this release.")
    return profile.latency


def solve_profile(path: Path, targets: Sequence[float], output: Path | None = None) -> Solved:
    """Solve every target and write what was found.

    Args:
        path: profile, .safetensors.
        targets: denoising speed-ups above 1.
        output: folder for one uncertified artifact per target and `frontier.json`; beside the profile by default.

    Raises:
        UsageError: the profile or the folder cannot be used.
        InfeasibleError: no target can be met; the frontier is written all the same.
    """
    profile = Profile.load(path)
    model, space = model_of(profile), space_of(profile)
    folder = output or path.with_name(path.stem + "-schedules")
    candidates = solve_targets(profile, model, space, list(targets))
    solved = Solved(targets, candidates, best_attainable(profile, model, space), folder)
    make_folder(folder)
    for target, candidate in zip(targets, candidates, strict=True):
        if candidate is not None:
            save_artifact(_artifact(profile, candidate), folder / file_name(target))
    frontier = TableSolver(error_models(profile, space)[0], model).frontier(profiled(profile, space))
    document = {
        "model": profile.model,
        "best_attainable": solved.best_attainable,
        "targets": [_row(target, candidate) for target, candidate in zip(targets, candidates, strict=True)],
        "frontier": [point._asdict() for point in frontier],
    }
    (folder / FRONTIER_FILE).write_text(json.dumps(document, indent=2) + "\n")
    require_one(solved)
    return solved


def require_one(solved: Solved) -> None:
    """At least one target must have been met.

    Raises:
        InfeasibleError: none was.
    """
    if all(candidate is None for candidate in solved.candidates):
        raise InfeasibleError(
            f"{', '.join(f'{target:g}x' for target in solved.targets)} cannot be reached: the highest rates at every "
            f"site are predicted to give {solved.best_attainable:.2f}x; the frontier is in {solved.folder}."
        )


def targets_table(solved: Solved) -> Table:
    """One row a target, for the terminal."""
    columns = ("target", "predicted", "error", "bound", "gap", "attention", "stride", "cache")
    table = Table(*columns, caption="error, bound and gap: of schedules that only copy")
    for target, candidate in zip(solved.targets, solved.candidates, strict=True):
        if candidate is None:
            table.add_row(f"{target:g}x", f"at most {solved.best_attainable:.2f}x")
            continue
        schedule = candidate.schedule
        table.add_row(
            f"{target:g}x",
            f"{candidate.predicted_speedup:.3f}x",
            f"{candidate.predicted_error:.4g}",
            f"{candidate.bound:.4g}",
            f"{candidate.gap:.2%}",
            f"{schedule.attention_cost():.3f}",
            stride_name(schedule.stride),
            str(schedule.cache_step),
        )
    return table


def _row(target: float, candidate: Candidate | None) -> dict[str, object]:
    if candidate is None:
        return {"target_speedup": target, "reached": False}
    return {
        "target_speedup": target,
        "reached": True,
        "file": file_name(target),
        "predicted_speedup": candidate.predicted_speedup,
        "predicted_error": candidate.predicted_error,
        "bound": candidate.bound,
        "attention_cost": candidate.schedule.attention_cost(),
        "stride": stride_name(candidate.schedule.stride),
        "cache_step": candidate.schedule.cache_step,
    }


def _artifact(profile: Profile, candidate: Candidate) -> Artifact:
    return Artifact(
        model=model_section(profile),
        workload=WorkloadSection(**profile.workload),
        schedule=ScheduleSection.from_schedule(candidate.schedule),
        similarity=similarity_section(profile),
        prediction=prediction_section(candidate),
        provenance=ProvenanceSection(source=SOURCE),
    )
