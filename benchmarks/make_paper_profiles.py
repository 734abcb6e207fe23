"""Writes the paper's Table 8 schedules as shipped profiles, `profiles/<model>/paper-base.json` and `paper-fast.json`.

    python benchmarks/make_paper_profiles.py REFERENCE

REFERENCE is the folder of `paper_tables.json` and `similarity_tables/`. The rates are resolved from the published
similarity tables, so that loading needs none. Nothing is measured here: the profiles carry no evidence and no gates,
which leaves them without a certificate.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from asymrnr.artifact import Artifact
from asymrnr.artifact_io import save_artifact
from asymrnr.resources import profiles_folder
from asymrnr.sections import ModelSection, ProvenanceSection, ScheduleSection, SimilaritySection, WorkloadSection
from tuner.paper.architectures import ARCHITECTURES
from tuner.paper.schedules import read_similarity, resolve_rule

METHODS = ("base", "fast")
TRANSFORMERS = {
    "cogvideox-2b": "CogVideoXTransformer3DModel",
    "cogvideox-5b": "CogVideoXTransformer3DModel",
    "mochi": "MochiTransformer3DModel",
    "hunyuanvideo": "HunyuanVideoTransformer3DModel",
    "fastvideo-hunyuan": "HunyuanVideoTransformer3DModel",
}
SIZES = {
    "cogvideox-2b": (49, 480, 720),
    "cogvideox-5b": (49, 480, 720),
    "mochi": (85, 480, 848),
    "hunyuanvideo": (129, 544, 960),
    "fastvideo-hunyuan": (65, 720, 1280),
}
"""Frames, height and width in pixels (paper, "Video Specification")."""

SOURCE = (
    "AsymRnR (ICML 2025), Table 8; rates resolved from the similarity table published with the paper. "
    "Not measured or certified here."
)
SIMILARITY_SOURCE = "{file}, published with the paper: tier i of {tiers} means a standardised similarity of i / {tiers}"


def paper_artifact(model: str, rule: dict[str, Any], heads: int, table: Path) -> Artifact:
    """One row of Table 8 as an artifact.

    Args:
        model: one of the paper's five.
        rule: {feature: {threshold: rate}}.
        heads: attention heads of the model.
        table: the published similarity table.
    """
    architecture = ARCHITECTURES[model]
    schedule = resolve_rule(rule, architecture, read_similarity(table, architecture))
    frames, height, width = SIZES[model]
    return Artifact(
        model=ModelSection(repo=model, transformer=TRANSFORMERS[model], blocks=schedule.blocks, heads=heads),
        workload=WorkloadSection(frames=frames, height=height, width=width, steps=schedule.steps),
        schedule=ScheduleSection.from_schedule(schedule),
        similarity=SimilaritySection(
            sha256=hashlib.sha256(table.read_bytes()).hexdigest(),
            percentiles=(5.0, 95.0),
            bins=architecture.tiers,
            source=SIMILARITY_SOURCE.format(file=table.name, tiers=architecture.tiers),
        ),
        provenance=ProvenanceSection(source=SOURCE),
    )


def main(reference: Path, output: Path) -> None:
    """Write all profiles."""
    tables = json.loads((reference / "paper_tables.json").read_text())
    for row in tables["table_1_2_8"]:
        if row["method"] in METHODS:
            facts = tables["models"][row["model"]]
            table = reference / "similarity_tables" / facts["similarity_file"]
            artifact = paper_artifact(row["model"], row["schedule"], facts["heads"], table)
            save_artifact(artifact, output / row["model"] / f"paper-{row['method']}.json")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--output", type=Path, default=profiles_folder())
    arguments = parser.parse_args()
    main(arguments.reference, arguments.output)
