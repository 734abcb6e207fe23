"""Uniform schedules that copy, restore with memory or broadcast: how far their videos are from the plain one.

    python benchmarks/restoration.py [--steps 8] [--prompts 4]

No time is measured. Attention is the share of the attention still computed; PSNR is that of the geometric mean of the
prompts' mean squared errors. Writes `benchmarks/results/restoration-STEPS.json`.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from embedded import MODEL, decibels, keep_results
from rich.console import Console
from rich.progress import track
from rich.table import Table

import asymrnr
from asymrnr import Action, Schedule
from tuner.models import find_model, load_pipeline
from tuner.quality.metrics import mse
from tuner.run.runner import Runner

FIRST_PROMPT, FIRST_SEED = 2, 777


@dataclass(frozen=True)
class Uniform:
    """The same at every site: an action at rates of Q and V; in full the first `lead` steps, then every `period`."""

    action: Action
    q: float = 0.0
    v: float = 0.0
    period: int = 1
    lead: int = 1

    def schedule(self, blocks: int, steps: int) -> Schedule:
        table = np.full((blocks, steps), self.action)
        if self.action != Action.REDUCE:
            table[:, : self.lead - 1] = Action.REDUCE  # at rates of 0, which is in full
            table[:, self.lead - 1 :: self.period] = Action.REFRESH
        reduced = table == (Action.REDUCE if self.action == Action.REDUCE else Action.MEMORY)
        rates = {feature: np.where(reduced, rate, 0.0) for feature, rate in (("Q", self.q), ("V", self.v))}
        return Schedule(rates=rates, actions=table)

    def __str__(self) -> str:
        rates = ", ".join(f"{name} {rate:g}" for name, rate in (("Q", self.q), ("V", self.v)) if rate)
        every = f"in full every {self.period} steps" if self.action != Action.REDUCE else ""
        every += f" after the first {self.lead}" if self.lead > 1 else ""
        return ", ".join(filter(None, [self.action.name.lower(), rates, every]))


SCHEDULES = (
    Uniform(Action.REDUCE, 0.3),
    Uniform(Action.MEMORY, 0.6, period=2),
    Uniform(Action.MEMORY, 0.8, 0.5, period=2),
    Uniform(Action.MEMORY, 0.6, 0.6, period=3),
    Uniform(Action.REDUCE, 0.5),
    Uniform(Action.BROADCAST, period=2),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=4)
    arguments = parser.parse_args()
    entry = find_model(MODEL).with_workload(steps=arguments.steps)
    runner = Runner(load_pipeline(MODEL), entry)
    prompts = entry.held_out_prompts(FIRST_PROMPT + arguments.prompts)[FIRST_PROMPT:]
    seeds = range(FIRST_SEED, FIRST_SEED + len(prompts))
    plain = [runner.generate(p, s).video for p, s in track(list(zip(prompts, seeds, strict=True)), "plain")]
    blocks = len(runner.denoiser.transformer_blocks)
    table, rows = Table("schedule", "attention", "PSNR", "bytes held at most"), []
    for uniform in track(SCHEDULES, "schedules"):
        schedule, held = uniform.schedule(blocks, arguments.steps), 0
        errors = []
        for prompt, seed, reference in zip(prompts, seeds, plain, strict=True):
            generation = runner.generate(prompt, seed, schedule)
            assert isinstance(generation.summary, asymrnr.Summary)
            errors.append(mse(generation.video, reference))
            held = max(held, generation.summary.memory_bytes)
        psnr = decibels(errors)
        row = {"schedule": str(uniform), "attention": schedule.attention_cost(), "psnr": psnr, "mse": errors}
        rows.append({**row, "bytes": held})
        table.add_row(str(uniform), f"{schedule.attention_cost():.3f}", f"{psnr:.1f} dB", f"{held:,}")
    Console().print(table)
    keep_results(f"restoration-{arguments.steps}", prompts, rows)


if __name__ == "__main__":
    main()
