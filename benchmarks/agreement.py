"""Is what a profile says true of other prompts? Similarities and errors of several prompts, profiled whole.

    python benchmarks/agreement.py

The paper calls the pattern of similarities model-specific and content-agnostic (section 3.4). Profiles the embedded
model on different prompts with different seeds and correlates the rankings of the sites, for similarities and for the
attention output's error at one rate. Writes `docs/agreement.md` with a picture, raw numbers to `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.progress import track

from tuner.models import REGISTRY, load_pipeline
from tuner.profile.agreement import agreement
from tuner.profile.profile import Profile
from tuner.profile.profiler import Profiler
from tuner.report.plots import axes_grid, save_figures
from tuner.run.identity import environment
from tuner.run.runner import Runner
from tuner.search.space import load_space_of
from tuner.stages.profile import settings_for

MODEL = "tiny-cogvideox"
FIRST_SEED = 6_000_000
RATE = 0.5


def profile_prompts(count: int) -> list[Profile]:
    """A whole profile of every prompt."""
    entry = REGISTRY[MODEL]
    runner = Runner(load_pipeline(MODEL), entry)
    space = load_space_of(entry)
    found = []
    for index, prompt in enumerate(track(entry.held_out_prompts(20 + count)[20:], "profiling")):
        profiler = Profiler(settings_for(space, entry.workload.steps, 0))
        runner.generate(prompt, FIRST_SEED + index, observer=profiler)
        found.append(profiler.finish(MODEL, entry.workload.as_dict(), prompt, FIRST_SEED + index))
    return found


def tables_of(profile: Profile) -> dict[str, np.ndarray]:
    """What is compared, each (blocks, steps)."""
    index = int(np.abs(profile.rates - RATE).argmin())
    tables = {f"S of {feature}": table for feature, table in profile.raw_similarity.items()}
    for feature, curves in (("Q", profile.q_error), ("V", profile.v_error)):
        tables[f"error of {feature} at rate {RATE:g}"] = next(iter(curves.values()))[..., index]
    return tables


def draw(all_tables: list[dict[str, np.ndarray]]) -> Figure:
    """Mean over blocks against the step, with the band that the prompts span."""
    figure, axes = axes_grid(len(all_tables[0]))
    for one, name in zip(axes, all_tables[0], strict=True):
        curves = np.stack([tables[name].mean(0) for tables in all_tables])
        one.plot(curves.mean(0))
        one.fill_between(np.arange(curves.shape[1]), curves.min(0), curves.max(0), alpha=0.3)
        one.set_title(name, fontsize="medium")
        one.set(xlabel="denoising step")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=4)
    arguments = parser.parse_args()
    profiles = profile_prompts(arguments.prompts)
    all_tables, machine = [tables_of(profile) for profile in profiles], environment()
    rows: list[dict[str, Any]] = []
    for name in all_tables[0]:
        pairs = [agreement(a[name], b[name]) for a, b in itertools.combinations(all_tables, 2)]
        worst = min(pairs, key=lambda pair: pair.spearman)
        mean = float(np.mean([pair.spearman for pair in pairs]))
        rows.append({"table": name, "mean": mean, "worst": worst._asdict()})
    lines = [
        "# Is a profile true of other prompts?",
        "",
        f"Measured by `python benchmarks/agreement.py`: {len(profiles)} held-out prompts of {MODEL} with seeds of",
        "their own, each profiled over a whole generation. Spearman's rank correlation over all (block, step) sites",
        "between pairs of prompts; the interval of the worst pair resamples blocks",
        f"({machine['cpu']}, torch {machine['torch']}).",
        "",
        "| table | mean of pairs | worst pair (95 %) |",
        "|---|---|---|",
    ]
    for row in rows:
        worst = row["worst"]
        interval = f"{worst['spearman']:.3f} ({worst['low']:.3f} to {worst['high']:.3f})"
        lines.append(f"| {row['table']} | {row['mean']:.3f} | {interval} |")
    lines += ["", "Bands span the prompts:", "", "![curves of all prompts](agreement.png)"]
    root = Path(__file__).parents[1]
    (root / "docs" / "agreement.md").write_text("\n".join(lines) + "\n")
    save_figures({"agreement": draw(all_tables)}, root / "docs")
    content = {"environment": machine, "prompts": [profile.prompt for profile in profiles], "rows": rows}
    (root / "benchmarks" / "results" / "agreement.json").write_text(json.dumps(content, indent=1) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
