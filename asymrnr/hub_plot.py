"""What a frontier of schedules costs in quality, as a picture for the model card."""

from __future__ import annotations

import io
from importlib.util import find_spec

from asymrnr.artifact import Artifact


def frontier_svg(artifact: Artifact) -> bytes | None:
    """PSNR against measured speed-up with its bound, one point a schedule; the same bytes for the same artifact.

    Returns:
        An SVG file; None where no schedule was measured, or where matplotlib is not installed.
    """
    if find_spec("matplotlib") is None:
        return None
    import matplotlib
    from matplotlib.figure import Figure

    found = []
    for point in (artifact, *artifact.frontier):
        psnr = None if point.evidence is None else point.evidence.quality.get("psnr")
        if point.evidence is None or psnr is None:
            continue
        speedup, low, high = point.evidence.speedup, psnr.low, psnr.high
        slower = 0.0 if speedup.lower_bound_95 is None else speedup.point - speedup.lower_bound_95
        spread = [[0.0 if low is None else psnr.value - low], [0.0 if high is None else high - psnr.value]]
        certified = point.proven and artifact.withdrawn is None
        found.append((speedup.point, psnr.value, [[slower], [0.0]], spread, certified))
    found.sort()
    if not found:
        return None
    figure = Figure(figsize=(5.2, 3.0), layout="constrained")
    axes = figure.add_subplot()
    for x, y, below, spread, certified in found:
        face = "black" if certified else "white"
        axes.errorbar(x, y, spread, below, fmt="o", color="black", markerfacecolor=face, elinewidth=0.8)
    axes.plot([x for x, *_ in found], [y for _, y, *_ in found], color="grey", linewidth=0.8, zorder=0)
    axes.set(xlabel="denoising speed-up (whisker: 95 % bound)", ylabel="PSNR to the plain video (dB)")
    axes.set_title("filled: certified", fontsize="small")
    written = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "asymrnr"}):
        figure.savefig(written, format="svg", metadata={"Date": None})
    return written.getvalue()
