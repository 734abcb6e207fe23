"""Checks an artifact again on this machine: does it fit, what is different here, and do its gates still pass?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from asymrnr.artifact import Artifact
from asymrnr.artifact_io import artifact_differences, save_artifact
from asymrnr.sections import WorkloadSection
from tuner.context import Context, Progress, TuneOptions
from tuner.errors import (
    BudgetExhaustedError,
    EnvironmentMismatchError,
    InfeasibleError,
    QualityGateError,
    TunerError,
    UsageError,
)
from tuner.models import ModelEntry
from tuner.opening import close, open_run
from tuner.outlook import Part
from tuner.package import evidence_section, file_name, gate_sections, ledger_rows, provenance_of
from tuner.proof import verdict_error
from tuner.report.speeds import speedup_text
from tuner.run.identity import environment
from tuner.stages.certify import LOOK_PAIRS, Certification, certify, cost_ie
from tuner.stages.certify import STAGE as CERTIFY
from tuner.stages.noise_floor import STAGE as NOISE_FLOOR
from tuner.stages.noise_floor import cost_ie as noise_floor_ie
from tuner.stages.noise_floor import measure_noise_floor
from tuner.stages.preflight import attention_sites

LOOK = "look"
LOOK_STEPS, LOOK_IE = 2, 1.0  # of the look at the model, and the most that it may cost, also of few-step models
MUST_FIT = ("frames", "height", "width", "steps")


@dataclass(frozen=True)
class Rechecked:
    """What checking an artifact again gave.

    Attributes:
        artifact: with this machine's evidence and gates, and the earlier ones that were not measured again.
        path: where it is saved.
        differences: what differs from where it was made, in sentences.
        certification: evidence and gates.
        spot_check: whether the budget held too few pairs for a certificate.
        target: speed-up checked.
        spent_ie: cost in unaccelerated generations.
    """

    artifact: Artifact
    path: Path
    differences: list[str]
    certification: Certification
    spot_check: bool
    target: float
    spent_ie: float

    @property
    def error(self) -> TunerError | None:
        """Why it is not certified here, or contradicted, with the exit code; None when all is well."""
        failed = {gate.name: gate for gate in self.certification.failed()}
        saved = f"the evidence is saved in {self.path}"
        n = len(self.certification.pairs)
        if self.spot_check:
            bad = [gate for name, gate in failed.items() if name not in ("speedup", "pairs")]
            if bad:
                return QualityGateError(f"{bad[0].message}; {saved}.")
            point = self.certification.denoise.point
            if point < self.target:
                return InfeasibleError(f"Denoising is {point:.3f}x faster (n = {n}) for {self.target:g}x; {saved}.")
            return None
        if set(failed) == {"speedup"} and not failed["speedup"].open:
            return InfeasibleError(f"{failed['speedup'].message}; {saved}.")
        if not failed:
            return None
        found = verdict_error(self.certification)
        return type(found)(f"{str(found).rstrip('.')}; {saved}.")


def target_of(artifact: Artifact) -> float:
    """The speed-up an artifact was certified, or at least judged, for.

    Raises:
        UsageError: it was never judged.
    """
    for gate in artifact.gates:
        if gate.name == "speedup" and gate.threshold is not None:
            return gate.threshold
    raise UsageError("The schedule was never certified for a target; say which one to check with --target-speedup.")


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
    blocks = len(attention_sites(ctx).shape_of)
    transformer = ctx.instrument.subject["transformer"]
    _refuse(artifact, {"model": {"transformer": transformer, "blocks": blocks}}, ctx.entry.name)


def _refuse(artifact: Artifact, needed: dict[str, dict[str, Any]], model: str) -> None:
    found = artifact_differences(artifact, needed)
    if found:
        raise EnvironmentMismatchError(f"The schedule does not fit {model}: {' '.join(found)}")


def recheck(artifact: Artifact, options: TuneOptions, progress: Progress) -> Rechecked:
    """Generate held-out pairs with an artifact's schedule, judge them, and save the artifact with that evidence.

    Args:
        artifact: what to check.
        options: the model, the workload, the target, the folder and the budget.
        progress: told the stages.

    Raises:
        UsageError: an option cannot be used.
        EnvironmentMismatchError: the artifact does not fit the model or its workload.
        BudgetExhaustedError: the budget does not hold one pair.
    """
    check_workload(artifact, options.model_entry())
    ctx = open_run(options, progress)
    try:
        return _recheck(artifact, ctx)
    finally:
        close(ctx)


def _recheck(artifact: Artifact, ctx: Context) -> Rechecked:
    options, schedule = ctx.options, artifact.schedule_object()
    ctx.progress.stage(LOOK, "does the schedule fit, and how long do steps take")
    check_model(artifact, ctx)
    steps = min(LOOK_STEPS, schedule.steps)
    plain, _ = ctx.instrument.first_steps(LOOK, ctx.tuning_prompt, schedule, steps)
    ctx.ledger.unit_seconds = float(np.median(plain)) * schedule.steps
    pairs = int((options.budget - LOOK_IE) / cost_ie(options.target_speedup, 1))
    if pairs < 1:
        raise BudgetExhaustedError(
            f"A budget of {options.budget:g} does not hold one pair, which costs "
            f"{cost_ie(options.target_speedup, 1):.1f} generations beside {LOOK_IE:g} for a look; raise --budget."
        )
    spot_check = pairs < LOOK_PAIRS[0]
    looks = (pairs,) if spot_check else LOOK_PAIRS
    evidence = artifact.evidence
    known = None if evidence is None else evidence.noise_floor
    parts = [Part(LOOK, (LOOK,)), Part(CERTIFY, (CERTIFY,), cost_ie(options.target_speedup, looks[0]))]
    if known is None:
        parts.insert(1, Part(NOISE_FLOOR, (NOISE_FLOOR,), noise_floor_ie(schedule.steps)))
    ctx.progress.plan(parts)
    floor = measure_noise_floor(ctx) if known is None else known
    # A look that took longer than allowed for costs none of the pairs the budget was said to hold.
    needed = ctx.ledger.spent_ie + cost_ie(options.target_speedup, pairs)
    ctx.ledger.budget_ie = max(ctx.ledger.budget_ie, needed)
    ctx.report_budget()
    certification = certify(ctx, schedule, options.target_speedup, floor, looks=looks)
    workload = WorkloadSection(**ctx.instrument.subject["workload"])
    found = artifact_differences(
        artifact,
        {"model": {"repo": ctx.entry.name}, "workload": workload.model_dump(), "environment": environment()},
    )
    gates = gate_sections(certification)
    measured = {gate.name for gate in gates}
    path = options.output / file_name(options.target_speedup)
    checked = artifact.model_copy(
        update={
            "model": artifact.model.model_copy(update={"repo": ctx.entry.name}),
            "workload": workload,
            "target": options.target_speedup,
            "frontier": (),  # not checked here
            "evidence": evidence_section(certification),
            "gates": (*gates, *(gate for gate in artifact.gates if gate.name not in measured)),
            "ledger": ledger_rows(ctx),
            "provenance": provenance_of(ctx.instrument.store, options.command, artifact.provenance.source),
        }
    )
    saved = save_artifact(checked, path)
    return Rechecked(saved, path, found, certification, spot_check, options.target_speedup, ctx.ledger.spent_ie)


def print_recheck(checked: Rechecked, console: Console) -> None:
    """What differs, what was measured, and the gates."""
    for sentence in checked.differences:
        console.print(f"differs: {sentence}", highlight=False, soft_wrap=True)
    certification = checked.certification
    verdict = "certified here" if certification.certified else "not certified here"
    if checked.spot_check:
        verdict = f"spot check of {len(certification.pairs)}, no certificate"
    table = Table(title=f"{checked.path.name}: {verdict}", show_header=False, title_justify="left")
    for name, speed in (("denoising", certification.denoise), ("end-to-end", certification.end_to_end)):
        table.add_row(f"{name} speed-up", speedup_text(speed))
    for name, values in certification.quality.items():
        table.add_row(name, f"{np.mean(values):.4g}")
    for gate in checked.artifact.gates:
        table.add_row(f"gate: {gate.name}", f"{gate.verdict}  {gate.message}")
    table.add_row("generations spent", f"{checked.spent_ie:.1f}")
    console.print(table)
