"""The artifact: schedules with where they fit, how they were found, and the evidence that they hold, as one document.

The models here and in `asymrnr.sections` are the format; `artifact.schema.json` is generated from them. Change the
format only together with `SCHEMA_VERSION` and `asymrnr.migration`.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final, Literal

from pydantic import model_validator

from asymrnr.errors import ArtifactError
from asymrnr.schedule import Schedule
from asymrnr.sections import (
    Judged,
    LedgerRow,
    ModelSection,
    Positive,
    ProvenanceSection,
    Sha256,
    SimilaritySection,
    WorkloadSection,
)

SCHEMA_VERSION: Final = 4


class Point(Judged):
    """One schedule of a frontier: certified where its gates say so, else predicted from those that are."""

    target: Positive


USUAL_TARGET = 1.2  # to ask for where an artifact names none


class Artifact(Judged):
    """A complete artifact. `sha256` covers everything else; it is filled in on saving."""

    schema_version: Literal[4] = SCHEMA_VERSION
    model: ModelSection
    workload: WorkloadSection
    frontier: tuple[Point, ...] = ()
    """The same model's schedules for other speed-ups, slowest first."""
    similarity: SimilaritySection | None = None
    ledger: tuple[LedgerRow, ...] = ()
    provenance: ProvenanceSection = ProvenanceSection()
    withdrawn: str | None = None
    """Why the certificates do not hold where the artifact was loaded; None where they were not withdrawn."""
    sha256: Sha256 | None = None

    @property
    def certified(self) -> bool:
        """Whether evidence is there, no gate failed and the certificate was not withdrawn."""
        return self.proven and self.withdrawn is None

    @property
    def why_not_certified(self) -> str | None:
        """In a few words, for "it is ..."; None where it is certified."""
        if self.certified:
            return None
        return "predicted, not measured" if self.evidence is None and self.prediction is not None else "not certified"

    def schedule_object(self) -> Schedule:
        """The schedule that `asymrnr.apply` takes."""
        return self.schedule.schedule()

    def points(self) -> list[Point]:
        """Every schedule that was made for a speed-up, slowest first."""
        own = [] if self.target is None else [Point(**{name: getattr(self, name) for name in Point.model_fields})]
        return sorted([*own, *self.frontier], key=lambda point: point.target)

    def at(self, speedup: float) -> Artifact:
        """The same artifact with the slowest schedule for at least a speed-up in the first place.

        Args:
            speedup: denoising speed-up wanted.

        Raises:
            ArtifactError: all were made for less.
        """
        points = self.points()
        found = next((point for point in points if point.target >= speedup), None)
        if found is None:
            most = f"the fastest one of {self.model.repo} is for {points[-1].target:g}x" if points else "there is none"
            raise ArtifactError(f"No schedule was made for {speedup:g}x: {most}; tune one for it.")
        if found.target == self.target:
            return self
        others = tuple(point for point in points if point is not found)
        own = {name: getattr(found, name) for name in Point.model_fields}
        return self.model_copy(update={**own, "frontier": others, "sha256": None})

    def content_sha256(self) -> str:
        """SHA-256 (hex) of the canonical JSON of everything but `sha256`."""
        return document_sha256(self.model_dump(mode="json"))

    def canonical_json(self) -> str:
        """The document as it is saved: sorted keys, no spaces, one line."""
        return canonical(self.model_dump(mode="json")) + "\n"

    @model_validator(mode="after")
    def _fits_together(self) -> Artifact:
        for judged in (self, *self.frontier):
            for rows in judged.schedule.rates.values():
                if len(rows) != self.model.blocks:
                    raise ValueError(f"The rates have {len(rows)} rows for a model of {self.model.blocks} blocks.")
                if len(rows[0]) != self.workload.steps:
                    raise ValueError(
                        f"The rates have {len(rows[0])} columns for a workload of {self.workload.steps} steps."
                    )
        return self


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the format; `artifact.schema.json` holds it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Artifact.model_json_schema()}


def document_sha256(document: dict[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON of everything in a document but its own `sha256`."""
    content = {name: value for name, value in document.items() if name != "sha256"}
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def canonical(document: Any) -> str:
    """JSON with sorted keys and no spaces."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def tune_command(artifact: Artifact | None, *options: str, target: float | None = None) -> str:
    """The command that makes a schedule like an artifact's, or any.

    Args:
        artifact: for which model and speed-up.
        options: what else to ask for, such as "--steps 8".
        target: for which speed-up instead.
    """
    model, wanted = "MODEL", target
    if artifact is not None:
        model, wanted = artifact.model.repo, target or artifact.target or USUAL_TARGET
    speedup = "X" if wanted is None else f"{wanted:g}"
    return " ".join(["asymrnr-tune", "--model", model, *options, "--target-speedup", speedup])
