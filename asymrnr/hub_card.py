"""The model card of an artifact on the hub."""

from __future__ import annotations

from asymrnr.artifact import Artifact
from asymrnr.hub import PLOT_NAME

HEADER = """---
library_name: asymrnr
pipeline_tag: text-to-video
tags:
- asymrnr
- diffusers
- acceleration
---
"""


def model_card(artifact: Artifact, repo_id: str, version: int, plotted: bool = False) -> str:
    """Markdown with YAML metadata: what the schedules are for, what is claimed of them, how to use and check them.

    Args:
        artifact: what is shared.
        repo_id: "owner/name".
        version: of the repository.
        plotted: there is a plot beside it.
    """
    model, work = artifact.model, artifact.workload
    partner = artifact.schedule.partner
    envelope = {
        "model": f"{model.repo}{'' if model.revision is None else f' at {model.revision}'}",
        "denoiser": f"{model.transformer}, {model.blocks} blocks",
        "video": f"{work.frames} frames of {work.height}x{work.width} pixels",
        "steps": str(work.steps),
        "scheduler": work.scheduler,
        "guidance": None if work.guidance_scale is None else f"{work.guidance_scale:g}",
        "data type": work.dtype,
        "step cache": "none" if partner is None else partner.cache,
    }
    lines = [
        HEADER,
        f"# Acceleration schedule for {model.repo}",
        "",
        f"Version {version}. {_verdict(artifact)}",
        "",
        "## Made for",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in envelope.items() if value is not None),
        "",
        "On another size, number of steps or machine nothing of this is promised.",
        "",
        "## Schedules",
        "",
        "| made for | status | speed-up | at least (95 %) | PSNR |",
        "|---|---|---|---|---|",
        *_rows(artifact),
        "",
        *([f"![PSNR against speed-up]({PLOT_NAME})", ""] if plotted else []),
        "## Use",
        "",
        "```python",
        "import asymrnr",
        "",
        f'asymrnr.apply(pipe, "{repo_id}@{version}")  # or asymrnr.load("{repo_id}@{version}", speedup=1.3)',
        "```",
        "",
        "Check it on your machine:",
        "",
        "```bash",
        f"asymrnr-tune pull {repo_id}@{version} -o schedule.json",
        f"asymrnr-tune certify schedule.json --model {model.repo}",
        "```",
        "",
    ]
    return "\n".join(lines)


def _verdict(artifact: Artifact) -> str:
    speedup = None if artifact.evidence is None else artifact.evidence.speedup
    if not artifact.certified or speedup is None:
        return "Not certified."
    pairs = len(artifact.evidence.seeds) if artifact.evidence is not None else 0
    return (
        f"Denoising is {speedup.point:.2f}x faster, with 95 % confidence at least {speedup.lower_bound_95:.2f}x, "
        f"certified on {pairs} held-out prompts."
    )


def _rows(artifact: Artifact) -> list[str]:
    rows = []
    for point in artifact.points():
        made = f"{point.target:g}x"
        if point.evidence is not None:
            speedup, psnr = point.evidence.speedup, point.evidence.quality.get("psnr")
            low = "" if speedup.lower_bound_95 is None else f"{speedup.lower_bound_95:.3f}x"
            quality = "" if psnr is None else f"{psnr.value:.1f} dB"
            status = "certified" if point.proven and artifact.withdrawn is None else "measured"
            rows.append(f"| {made} | {status} | {speedup.point:.3f}x | {low} | {quality} |")
        elif point.prediction is not None:
            rows.append(f"| {made} | predicted | {point.prediction.speedup:.3f}x | | |")
    return rows
