"""Calibrates diffusers' MagCache: how much residuals change at every step."""

from __future__ import annotations

import ast
import io
from contextlib import redirect_stdout

from asymrnr.adapters import find_adapter
from asymrnr.install import self_attentions
from asymrnr.partner import Partner
from tuner.latency.alongside import alone
from tuner.run.runner import Runner


def magnitude_ratios(runner: Runner, prompt: str, seed: int) -> list[float]:
    """How much residuals change at every step, as MagCache calibrates itself; it prints them, and nothing else tells.

    Args:
        runner: of the model.
        prompt, seed: of the calibrating generation.
    """
    steps, said = runner.entry.workload.steps, io.StringIO()
    blocks = len(self_attentions(runner.denoiser, find_adapter(runner.denoiser)))
    calibrating = Partner("mag-cache", {"calibrate": True, "num_inference_steps": steps})
    with redirect_stdout(said):
        runner.generate(prompt, seed, alone(calibrating, blocks, steps))
    line = next(line for line in said.getvalue().splitlines() if line.startswith("[1.0"))
    return [float(ratio) for ratio in ast.literal_eval(line)]
