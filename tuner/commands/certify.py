"""Checks an artifact again on this machine: does it fit, what is different here, and do its gates still pass?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from asymrnr.artifact import Artifact, ProvenanceSection
from asymrnr.artifact_io import artifact_differences, save_artifact
from tuner.certify.protocol import STAGE, Certification, certify, cost_ie
from tuner.errors import EnvironmentMismatchError, InfeasibleError, TunerError, UsageError
from tuner.latency.preflight import attention_sites, time_unaccelerated
from tuner.models import ModelEntry, find_model
from tuner.package import evidence_section, file_name, gate_sections, ledger_rows, now
from tuner.pipeline import open_run, verdict_error
from tuner.run.context import Context, Progress, TuneOptions
from tuner.run.identity import environment
from tuner.run.workload import describe_workload

PAIRS = (3, 2, 1)  # as many as the budget holds
FOR_NOISE_FLOOR = 2  # two pairs share a prompt
MUST_FIT = ("frames", "height", "width", "steps")


@dataclass(frozen=True)
class Rechecked:
    """What checking an artifact again gave.

    Attributes:
        artifact: with this machine's evidence and gates.
        path: where it is saved.
        differences: what differs from where it was made, in sentences.
        certification: evidence and gates.
        spent_ie: cost in unaccelerated generations.
    """

    artifact: Artifact
    path: Path
    differences: list[str]
    certification: Certification
    spent_ie: float

    @property
    def error(self) -> TunerError | None:
        """Why it is not certified here, with the exit code; None when it is."""
        failed = {gate.name for gate in self.certification.failed()}
        if failed == {"speedup"}:
            message = next(gate.message for gate in self.certification.failed())
            return InfeasibleError(f"{message}; the evidence is saved in {self.path}.")
        return verdict_error(self.certification, self.path) if failed else None


def target_of(artifact: Artifact) -> float:
    """The speed-up an artifact was certified, or at least judged, for.

    Raises:
        UsageError: it was never judged.
    """
    for gate in artifact.gates:
        if gate.name == "speedup" and gate.threshold is not None:
            return gate.threshold
    raise UsageError("The schedule was never certified for a target; say which one to check with --target-speedup.")


def noise_floor_of(artifact: Artifact) -> float | None:
    """What another seed changes in the model's videos, as the artifact's evidence implies; None without evidence."""
    share = next((gate.value for gate in artifact.gates if gate.name == "video"), None)
    errors = None if artifact.evidence is None else artifact.evidence.quality.get("mse")
    return errors.value / share if errors is not None and share else None


def check_workload(artifact: Artifact, entry: ModelEntry) -> None:
    """The artifact must be for videos of the size and number of steps that the model generates here.

    Raises:
        EnvironmentMismatchError: it is not.
    """
    here = entry.workload.as_dict()
    _refuse(artifact, {"workload": {name: here[name] for name in MUST_FIT}}, entry.name)


def check_model(artifact: Artifact, ctx: Context) -> None:
    """The artifact must be for the transformer that was loaded.

    Raises:
        EnvironmentMismatchError: it is for another class of transformer or another number of blocks.
    """
    transformer, blocks = type(ctx.runner.denoiser).__name__, len(attention_sites(ctx).shape_of)
    _refuse(artifact, {"model": {"transformer": transformer, "blocks": blocks}}, ctx.entry.name)


def _refuse(artifact: Artifact, needed: dict[str, dict[str, Any]], model: str) -> None:
    found = artifact_differences(artifact, needed)
    if found:
        raise EnvironmentMismatchError(f"The schedule does not fit {model}: {' '.join(found)}")


def recheck(artifact: Artifact, options: TuneOptions, progress: Progress) -> Rechecked:
    """Generate held-out pairs with an artifact's schedule, judge them, and save the artifact with that evidence.

    Args:
        artifact: what to check.
        options: the model, the target, the folder and the budget.
        progress: told the stages.

    Raises:
        UsageError: an option cannot be used.
        EnvironmentMismatchError: the artifact does not fit the model or its workload.
        BudgetExhaustedError: the budget does not hold one pair, or two where the artifact knows no noise floor.
    """
    started = now()
    entry = find_model(options.model)
    check_workload(artifact, entry)
    ctx = open_run(options, progress)
    progress.stage("look", "does the schedule fit, and how long do unaccelerated steps take")
    check_model(artifact, ctx)
    time_unaccelerated(ctx)
    workload = describe_workload(ctx.runner)
    found = artifact_differences(
        artifact, {"model": {"repo": entry.name}, "workload": workload, "environment": environment()}
    )
    floor = noise_floor_of(artifact)
    possible = [n for n in PAIRS if floor is not None or n >= FOR_NOISE_FLOOR]
    pairs = max((n for n in possible if _cost(options, n) <= ctx.ledger.remaining_ie), default=min(possible))
    ctx.ledger.reserve(STAGE, _cost(options, pairs))
    certification = certify(ctx, artifact.schedule_object(), pairs, teacher_forced=False, noise_floor=floor)
    path = options.output / file_name(options.target_speedup)
    checked = artifact.model_copy(
        update={
            "model": artifact.model.model_copy(update={"repo": entry.name}),
            "workload": artifact.workload.model_copy(update=workload),
            "evidence": evidence_section(certification),
            "gates": gate_sections(certification),
            "ledger": ledger_rows(ctx),
            "provenance": ProvenanceSection(
                environment=environment(),
                command=options.command or None,
                started=started,
                finished=now(),
                source=artifact.provenance.source,
            ),
        }
    )
    return Rechecked(save_artifact(checked, path), path, found, certification, ctx.ledger.spent_ie)


def _cost(options: TuneOptions, pairs: int) -> float:
    return cost_ie(options.target_speedup, pairs, teacher_forced=False)


def print_recheck(checked: Rechecked, console: Console) -> None:
    """What differs, what was measured, and the gates."""
    for sentence in checked.differences:
        console.print(f"differs: {sentence}", highlight=False, soft_wrap=True)
    certification = checked.certification
    verdict = "certified here" if certification.certified else "not certified here"
    table = Table(title=f"{checked.path.name}: {verdict}", show_header=False, title_justify="left")
    for name, speed in (("denoising", certification.denoise), ("end-to-end", certification.end_to_end)):
        table.add_row(f"{name} speed-up", f"{speed.point:.3f}x, at least {speed.lower_bound_95:.3f}x (95 %)")
    for name, values in certification.quality.items():
        table.add_row(name, f"{np.mean(values):.4g}")
    for gate in certification.gates:
        table.add_row(f"gate: {gate.name}", f"{gate.verdict}  {gate.message}")
    table.add_row("generations spent", f"{checked.spent_ie:.1f}")
    console.print(table)


def require_certified(checked: Rechecked) -> None:
    """Raises the error that says why the artifact is not certified here, if it is not.

    Raises:
        QualityGateError, NoisyMeasurementError, InfeasibleError: a gate failed.
    """
    if checked.error is not None:
        raise checked.error
