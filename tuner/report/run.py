"""Shows a run, finished or not: the HTML report, its figures as files, and the table on the terminal."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from tuner.context import Context
from tuner.findings import Findings, Outcome
from tuner.report import plots
from tuner.report.facts import facts, headline, verdict
from tuner.report.figures import figures
from tuner.report.film import MAX_HEIGHT, Comparison
from tuner.report.finalists import finalists
from tuner.report.html import RunReport, render_report
from tuner.report.prompt_rows import PromptRow, prompt_rows
from tuner.report.usage import snippets
from tuner.report.video import write_mp4
from tuner.run.identity import environment
from tuner.stages.certify import Certification

REPORT_FILE = "report.html"
FIGURES = "figures"
VIDEOS = "videos"


def write_report(ctx: Context, findings: Findings) -> Path:
    """Write the HTML report and every figure as SVG and PNG, of as much as there is; returns the report's path."""
    certification, target, artifact = findings.healthy, ctx.options.target_speedup, findings.artifact
    drawn, charts = figures(ctx, findings)
    plots.save_figures(drawn, ctx.options.output / FIGURES)
    rows = [] if certification is None else prompt_rows(certification, ctx.entry, target)
    report = RunReport(
        title=f"{ctx.entry.name} at {target:g}x",
        certified=certification is not None and certification.certified,
        verdict=verdict(ctx, certification, findings.error),
        headline=headline(ctx, findings),
        snippets={} if artifact is None else snippets(ctx, ctx.tuning_prompt),
        speeds=[] if artifact is None else [point.target for point in artifact.points()],
        facts=facts(ctx, findings),
        gates=() if certification is None else certification.gates,
        prompts=rows,
        figures=drawn,
        charts=charts,
        finalists=finalists(findings.verification),
        comparisons=[] if certification is None else _comparisons(ctx, certification, rows),
        fps=ctx.entry.fps,
        compared=findings.compared,
        ledger=ctx.ledger.rows(),
        environment=environment() if artifact is None else artifact.provenance.environment,
        command=ctx.options.command,
    )
    path = ctx.options.output / REPORT_FILE
    path.write_text(render_report(report), encoding="utf-8")
    return path


def _comparisons(ctx: Context, certification: Certification, rows: list[PromptRow]) -> list[Comparison]:
    found = []
    for pair, row in zip(certification.pairs, rows, strict=True):
        plain, tuned = pair.plain.pixels, pair.tuned.pixels
        files = {} if plain.shape[-2] <= MAX_HEIGHT else _full_size(ctx, pair.seed, {"plain": plain, "tuned": tuned})
        label = f"{row.speedup:.2f}x, {row.psnr:.1f} dB PSNR"
        found.append(Comparison(pair.prompt, pair.seed, label, plain, tuned, files))
    return found


def _full_size(ctx: Context, seed: int, videos: dict[str, torch.Tensor]) -> dict[str, str]:
    """Write videos beside the report, at their own size; their addresses by name."""
    folder = ctx.options.output / VIDEOS
    folder.mkdir(exist_ok=True)
    for name, video in videos.items():
        if not (path := folder / f"seed-{seed}-{name}.mp4").is_file():
            write_mp4(video, path, ctx.entry.fps)
    return {name: f"{VIDEOS}/seed-{seed}-{name}.mp4" for name in videos}


def print_summary(outcome: Outcome, console: Console) -> None:
    """The closing table on the terminal."""
    found = outcome.findings
    table = Table(title=f"{outcome.ctx.entry.name}: certified", show_header=False, title_justify="left")
    for name, text in facts(outcome.ctx, found).items():
        table.add_row(name, text)
    assert found.artifact is not None
    for gate in found.artifact.gates:
        table.add_row(f"gate: {gate.name}", f"{gate.verdict}  {gate.message}")
    for row in found.compared:
        measured = [] if row.speedup is None else [f"{row.speedup:.2f}x"]
        measured += [] if row.psnr is None else [f"at {row.psnr:.1f} dB"]
        table.add_row(f"on one prompt: {row.name}", " ".join(measured) + (f" {row.note}" if row.note else ""))
    console.print(table)
    console.print(f"schedule  {found.path}\nreport    {outcome.report}", highlight=False)
