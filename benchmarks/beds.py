"""The embedded models side by side: what was certified on each, and what the alternatives come to there.

    python benchmarks/beds.py benchmarks/results/alternatives-tiny-* --errors benchmarks/results/errors-tiny-*

Generates nothing: it reads what `alternatives.py` kept, a folder for every model and number of steps, what its
`--errors-only` gave of more prompts, the shipped profiles of all embedded models, and what `proxies.py` measured.
Writes `docs/test-beds.md`.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from alternatives_report import HEURISTIC, TUNED, caches_among, paragraph
from frontier import Measured, at_speed, best_as_fast, by_family, frontier, measured, psnr_of
from kept_results import RESULTS, kept, machine_text, rows_of
from lockstep_methods import typical_text
from proxies import IN_USE, correlation, losses_of, results_of
from tables import table

from asymrnr.find import available_profiles
from asymrnr.shipped import load_shipped
from tuner.embedded.entries import ENTRIES

DOCUMENT = Path(__file__).parents[1] / "docs" / "test-beds.md"
SPEEDS = (1.5, 2.0)  # where known methods are looked at
HAND = ("uniform copying", "uniform memory", "uniform broadcasting")
KNOWN = (
    "On real models published step caches give 1.6x to 2.8x at 22 to 33 dB: MagCache 2.8x at 26.8 dB on HunyuanVideo "
    "and at 22 to 24 dB on Wan 14B, EasyCache 2.21x at 32.7 dB on HunyuanVideo and 2.54x at 25.2 dB on Wan 1.3B (as "
    "published). What is far above that here is easier than a real model."
)


@dataclass(frozen=True)
class Bed:
    """A model in so many steps.

    Attributes:
        model, steps: which.
        where: machine and software of the alternatives.
        methods: as measured beside the plain pipeline.
    """

    model: str
    steps: int
    where: str
    methods: tuple[Measured, ...]

    def __str__(self) -> str:
        return f"{self.model}, {self.steps} steps"


def load_bed(folder: Path, errors: Sequence[Path] = ()) -> Bed:
    """What `alternatives.py` kept there.

    Args:
        folder: of timed pairs.
        errors: of videos that nothing was timed of; those of other models and workloads do not count.

    Raises:
        SystemExit: there is nothing.
    """
    for each in (folder, *errors):
        if not (each / RESULTS).exists():
            raise SystemExit(f"There are no results in {each}; benchmarks/alternatives.py makes them with --output.")
    head, *rows = kept(folder)
    subject, where = head["subject"], machine_text(head["environment"])
    what = subject["model"], subject["workload"]
    others = [(each, kept(each)[0]["subject"]) for each in errors]
    rows += rows_of([each for each, other in others if (other["model"], other["workload"]) == what], subject)
    return Bed(subject["model"], subject["workload"]["steps"], where, tuple(measured(rows)[0]))


def certified_rows(model: str) -> list[list[str]]:
    """A row for every certified schedule of a model's shipped profiles."""
    rows = []
    for name in available_profiles().get(model, []):
        artifact = load_shipped(model, name)
        spent = sum(row.ie for row in artifact.ledger)
        for point in artifact.points():
            if not point.proven or point.evidence is None:
                continue
            speed, quality = point.evidence.speedup, point.evidence.quality
            predicted = "-" if point.prediction is None else f"{point.prediction.speedup:.3f}x"
            cells = [f"{point.target:g}x", predicted, f"{speed.point:.3f}x", f"{speed.lower_bound_95:.3f}x"]
            rows.append([model, name, *cells, f"{quality['psnr'].value:.1f}", f"{spent:.1f}"])
    return rows


def against_rows(bed: Bed) -> list[list[str]]:
    """A row for every tuned schedule: errors of the alternatives at its speed over its own."""
    families, rows = by_family(bed.methods), []
    for tuned in families.get(TUNED, []):
        cells = [str(bed), tuned.name, f"{math.exp(tuned.log_speedup):.3f}x", f"{psnr_of(tuned.log_error):.1f}"]
        kinds = [*(families.get(family, []) for family in (HEURISTIC, *HAND)), caches_among(bed.methods)]
        found = [best_as_fast(kind, tuned) for kind in kinds]
        cells += ["-" if best is None else typical_text(best[1], "{:.2g}") for best in found]
        if (cache := found[-1]) is not None:
            cells[-1] += f", {cache[0][0][1].family}"
        rows.append([*cells, str(len(tuned.judged))])
    return rows


def known_rows(bed: Bed) -> list[list[str]]:
    """A row for every cache: its PSNR at `SPEEDS`, between the settings that were measured."""
    rows = []
    for family, methods in by_family(caches_among(bed.methods)).items():
        line = frontier(methods)
        mixes = [at_speed(line, math.log(speed)) for speed in SPEEDS]
        logs = [sum(weight * method.log_error for weight, method in mix) if mix else None for mix in mixes]
        cells = ["-" if log is None else f"{psnr_of(log):.1f}" for log in logs]
        if line:
            rows.append([str(bed), family, *cells])
    return rows


def proxy_text(model: str) -> str | None:
    """Spearman's correlation of the proxy in use with measured errors; None where that was not measured."""
    path = results_of(model)
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    value, low, high = correlation(np.array(content["proxies"][IN_USE]), losses_of(content))
    return f"{model} {value:.3f} ({low:.3f} to {high:.3f})"


def document(beds: Sequence[Bed], command: str) -> str:
    """The whole document, in Markdown."""
    models = [entry.name for entry in ENTRIES]
    proxies = [text for model in models if (text := proxy_text(model))]
    machines = " ".join(f"{bed}: {bed.where}." for bed in beds)
    lines = [
        "# Test beds side by side",
        "",
        paragraph(f"Written by `{command}` from what was measured before. {machines}"),
        "",
        "## Certified",
        "",
        paragraph(
            "On held-out prompts, four or more each. Generations are what the whole profile cost, with all of its "
            "schedules; PSNR is to the unaccelerated video."
        ),
        "",
        *table(
            (
                "model",
                "profile",
                "asked for",
                "predicted",
                "measured",
                "at least (95 %)",
                "PSNR (dB)",
                "generations",
            ),
            [row for model in models for row in certified_rows(model)],
        ),
        "",
        paragraph(
            "How much alike the error that the search predicts and the measured one rank random schedules, Spearman "
            f"(95 %): {'; '.join(proxies) or 'not measured'}."
        ),
        "",
        "## Against what else there is",
        "",
        paragraph(
            "Mean squared error of the best alternative of each kind that is as fast or faster, over that of the tuned "
            "schedule; geometric means over prompts that nothing was chosen by, with 95 % t intervals. Above 1 the "
            "tuned schedule is better; - where none is as fast. Between two settings of a family the logarithm of the "
            "error is interpolated over that of the speed-up. "
            "For tiny-cogvideox see [30 steps](alternatives-30.md) and [8 steps](alternatives-8.md)."
        ),
        "",
        *table(
            ("test bed", "tuned", "speed-up", "PSNR (dB)", HEURISTIC, *HAND, "diffusers' caches", "videos"),
            [row for bed in beds for row in against_rows(bed)],
        ),
        "",
        "## Where known methods lie",
        "",
        paragraph(f"PSNR (dB) of diffusers' caches at a speed, between the settings that were measured. {KNOWN}"),
        "",
        *table(
            ("test bed", "cache", *(f"at {speed:g}x" for speed in SPEEDS)),
            [row for bed in beds for row in known_rows(bed)],
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="folders of benchmarks/alternatives.py")
    parser.add_argument("--errors", type=Path, nargs="+", default=[], help="folders of what --errors-only gave")
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    arguments = parser.parse_args()
    beds = [load_bed(folder, arguments.errors) for folder in arguments.results]
    arguments.document.write_text(document(beds, shlex.join(["python", *sys.argv])))
    print(f"Written: {arguments.document}")


if __name__ == "__main__":
    main()
