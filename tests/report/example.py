"""A report with everything that a report may have, made of little."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.figure import Figure

from asymrnr.schedule import Schedule
from tuner.certify.gates import drift_gate, noise_gate
from tuner.report import plots
from tuner.report.chart import frontier_chart
from tuner.report.film import Comparison
from tuner.report.finalists import Finalist
from tuner.report.html import RunReport
from tuner.report.prompt_rows import PromptRow
from tuner.search.result import FrontierPoint, TrialRecord
from tuner.stages.compare import Compared

PROMPT = "a red circle"
SEEDS = (9_000_000, 9_000_001)
LINES = {
    "table": [FrontierPoint(1.1, 0.1), FrontierPoint(1.2, 0.15), FrontierPoint(1.3, 0.2)],
    "threshold": [FrontierPoint(1.2, 0.3)],
    "nothing": [],
}
FINALIST = Finalist("finalist 1", "table, stride 2x2x2", True, 1.31, 1.3, 1.28, 0.2, 1e-4)


def video(seed: int = 0) -> torch.Tensor:
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def figures() -> dict[str, Figure]:
    rates = {f: np.full((3, 4), 0.5) for f in ("Q", "V")}
    history = [TrialRecord(0, 1.2, float("inf"), "table", float("nan")), TrialRecord(1, 1.3, 0.2, "threshold", 0.2)]
    return {
        "Where the schedule reduces": plots.schedule_maps(Schedule(rates=rates, stride=(2, 2, 2), cache_step=2)),
        "What the search tried": plots.search_history(history),
        "Error against speed": plots.frontier(LINES, [("finalist 1", 1.3, 0.2)], 1.3),
        "Predicted against measured speed-up": plots.predicted_against_measured([("finalist 1", 1.31, 1.3, 1.28)]),
    }


def report() -> RunReport:
    chart = frontier_chart(LINES, [(FINALIST.name, FINALIST.place, FINALIST.measurement)], 1.3)
    assert chart is not None
    return RunReport(
        title="tiny <b>at</b> 1.3x",
        certified=False,
        verdict="Too slow.",
        headline={"asked for": ("1.3x", "denoising speed-up"), "quality": ("40.0 dB", "PSNR")},
        snippets={"Python": "import asymrnr", "Shell": "asymrnr-tune generate --model tiny " + "--long " * 40},
        speeds=(1.1, 1.3),
        facts={"denoising speed-up": "1.31x", "a word without a break" * 4: "x" * 200},
        gates=[noise_gate(0.01, 0.0), drift_gate("flicker", [1.2])],
        prompts=[PromptRow(PROMPT, seed, 1.31, 40.0, 0.99, 0.02, ("2 of 30 steps disturbed",)) for seed in SEEDS],
        figures=figures(),
        charts={"Error against speed": chart},
        finalists=[FINALIST],
        comparisons=[Comparison(PROMPT, seed, "1.31x", video(), video(1)) for seed in SEEDS],
        fps=8,
        compared=[Compared("first-block-cache:0.1", 1.7, 33.6), Compared("mag-cache", note="does nothing here")],
        ledger=[{"stage": "profile", "ie": 1.4, "seconds": 12.0}, {"stage": "certify", "ie": None, "seconds": 1.0}],
        environment={"cpu": "x", "gpu": None},
        command="asymrnr-tune --model tiny",
    )
