"""The speeds of one run: those certified, those refused and those predicted, in words and as a picture."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from asymrnr.artifact import Artifact
from tuner.certify.statistics import BOTH_SIDES, SpeedupEstimate, mean_bounds
from tuner.context import Context
from tuner.findings import Findings
from tuner.report.plots import SIZE
from tuner.stages.certify import Certification


def speedup_text(speed: SpeedupEstimate) -> str:
    """A speed-up with its bound; a single pair has none."""
    if speed.lower_bound_95 is None:
        return f"{speed.point:.3f}x (n = 1, no interval)"
    return f"{speed.point:.3f}x, at least {speed.lower_bound_95:.3f}x with 95 % confidence (n = {speed.pairs})"


def promise(artifact: Artifact) -> str:
    """What an artifact's certificate says of its first schedule, in a sentence."""
    if not artifact.certified or artifact.evidence is None:
        return "The schedule is not certified."
    speed, pairs = artifact.evidence.speedup, len(artifact.evidence.tuned_seconds)
    least = "" if speed.lower_bound_95 is None else f", at least {speed.lower_bound_95:.3f}x with 95 % confidence"
    return f"Where it was certified, denoising was {speed.point:.3f}x faster{least} (n = {pairs})."


def other_speeds(ctx: Context, findings: Findings) -> dict[str, str]:
    """Rows of the closing table: every further target, and what lies between."""
    rows = {}
    for target, found in zip(ctx.options.also, findings.further, strict=False):
        certification, name = found.certification, f"for {target:g}x"
        if certification is not None and certification.certified:
            quality = float(np.mean(certification.quality["psnr"]))
            rows[name] = f"certified: {speedup_text(certification.denoise)}; PSNR {quality:.1f} dB"
        elif found.error is not None:
            rows[name] = f"not certified: {str(found.error).removeprefix(f'For {target:g}x: ')}"
    if findings.between:
        speeds = ", ".join(f"{point.target:g}x" for point in findings.between)
        rows["predicted, not measured"] = f"schedules for {speeds}"
    return rows


def speeds_and_quality(points: Mapping[float, Certification]) -> Figure:
    """PSNR to the unaccelerated videos against speed-up, both with their 95 % intervals."""
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.add_subplot()
    for target, certification in points.items():
        speed, quality = certification.denoise, mean_bounds(certification.quality["psnr"], BOTH_SIDES)
        across = up = None
        if speed.lower_bound_95 is not None and speed.upper_bound_95 is not None:
            across = np.array([[speed.point - speed.lower_bound_95], [speed.upper_bound_95 - speed.point]])
        if quality.low is not None and quality.high is not None:
            up = np.array([[quality.mean - quality.low], [quality.high - quality.mean]])
        axes.errorbar(speed.point, quality.mean, up, across, fmt="o", capsize=2, color="tab:blue")
        axes.annotate(f"{target:g}x", (speed.point, quality.mean), xytext=(6, 4), textcoords="offset points")
    axes.set(xlabel="measured denoising speed-up", ylabel="PSNR to the unaccelerated video, dB")
    return figure
