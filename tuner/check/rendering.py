"""What `asymrnr-tune check` prints: for people, for a job summary, or for other programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from asymrnr.artifact import Artifact
from tuner.check.claims import Claim, claims, schedules
from tuner.check.comparison import Comparison

CLAIMS_HEAD = ("made for", "verdict", "speed-up", "PSNR", "pairs")
CHANGES_HEAD = ("made for", "", "before", "now", "")
Rows = Sequence[Sequence[str]]


def claims_rows(artifact: Artifact) -> list[tuple[str, ...]]:
    """A row for every schedule, under `CLAIMS_HEAD`."""
    return [(c.name, _verdict(c), c.speedup, c.quality, str(c.pairs) if c.pairs else "-") for c in claims(artifact)]


def changes_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """A row for every change, under `CHANGES_HEAD`."""
    return [(c.name, c.quantity, c.before, c.after, c.trend) for c in comparison.changes]


def subject(artifact: Artifact) -> str:
    """Model and workload in a line."""
    model, workload = artifact.model, artifact.workload
    size = f"{workload.width}x{workload.height}, {workload.frames} frames, {workload.steps} steps"
    return f"{model.repo}, {model.transformer}, {size}"


def markdown(artifacts: Mapping[str, Artifact], comparison: Comparison | None) -> str:
    """For the summary of a job."""
    parts = []
    for name, artifact in artifacts.items():
        parts += [f"### {name}", "", subject(artifact), "", *_table(CLAIMS_HEAD, claims_rows(artifact)), ""]
    if comparison is not None:
        worse = len(comparison.worse)
        verdict = f"**{worse} worse beyond uncertainty**" if worse else "Nothing got worse beyond its uncertainty."
        parts += ["### Against before", "", verdict, "", *_table(CHANGES_HEAD, changes_rows(comparison)), ""]
        parts += [f"- {sentence}" for sentence in comparison.settings]
    return "\n".join(parts).rstrip() + "\n"


def as_json(artifacts: Mapping[str, Artifact], comparison: Comparison | None) -> str:
    """For other programs: speed-ups as such instead of logarithms; what is unknown is null."""
    document: dict[str, Any] = {
        "artifacts": {
            name: {"model": artifact.model.repo, "certified": artifact.certified, "sha256": artifact.sha256}
            | {"schedules": [_plain(claim) for claim in claims(artifact)]}
            for name, artifact in artifacts.items()
        }
    }
    if comparison is not None:
        document["against"] = {**asdict(comparison), "worse": len(comparison.worse)}
    return json.dumps(document, indent=2)


def as_predicate(artifacts: Mapping[str, Artifact]) -> str:
    """The predicate of an in-toto test-result attestation (version 0.1): certificates, and the gates they rest on."""
    tests: dict[str, list[str]] = {"PASS": [], "WARN": [], "FAIL": []}
    for name, artifact in artifacts.items():
        for claim, judged in zip(claims(artifact), schedules(artifact), strict=True):
            for gate in judged.gates:
                tests[gate.verdict].append(f"{name} {claim.name} {gate.name}: {gate.message}")
    passed = all(artifact.proven for artifact in artifacts.values())
    document = {
        "result": ("WARNED" if tests["WARN"] else "PASSED") if passed else "FAILED",
        "configuration": [
            {"name": name, "digest": {"sha256": artifact.sha256}} for name, artifact in artifacts.items()
        ],
        "passedTests": tests["PASS"],
        "warnedTests": tests["WARN"],
        "failedTests": tests["FAIL"],
    }
    return json.dumps(document, indent=2)


def as_outputs(artifacts: Mapping[str, Artifact]) -> str:
    """Lines `name=value` for the outputs of a step of GitHub Actions, of the last artifact; empty where unknown."""
    name, artifact = list(artifacts.items())[-1]
    claim = _plain(_own(artifact))
    values = {
        "artifact": name,
        "verdict": claim["verdict"],
        "speedup": claim["speedup"],
        "lower-bound": claim["lower_bound_95"],
    }
    return "\n".join(f"{key}={_said(value)}" for key, value in values.items())


def _own(artifact: Artifact) -> Claim:
    """The claim of the schedule that the artifact was made for, not of those beside it."""
    return next(claim for claim in claims(artifact) if claim.target == artifact.target)


def _said(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _verdict(claim: Claim) -> str:
    return f"{claim.verdict}: {', '.join(claim.failed)}" if claim.failed else claim.verdict


def _plain(claim: Claim) -> dict[str, Any]:
    log, psnr = claim.log_speedup, claim.psnr
    low = None if log is None or not math.isfinite(log.half_width) else math.exp(log.value - log.half_width)
    return {
        "target": claim.target,
        "verdict": claim.verdict,
        "failed": list(claim.failed),
        "speedup": None if log is None else math.exp(log.value),
        "lower_bound_95": low,
        "predicted_speedup": claim.predicted,
        "psnr": None if psnr is None else psnr.value,
        "pairs": claim.pairs,
    }


def _table(head: Sequence[str], rows: Rows) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
