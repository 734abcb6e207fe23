"""The installed runtime at rate 0 against the plain denoiser, on the embedded model.

    python benchmarks/overhead.py

Two copies of the denoiser go through the timesteps of a generation in turn, one plain and one with the runtime
installed: neighbouring calls see little of a machine that changes its pace, and the median of many ratios is narrow.
After every generation the copies change roles. What the runtime adds to a call does not grow with the tokens when
nothing is reduced, so it is also measured on the same architecture (random weights) with few of them, where it shows
above the scatter, and put in relation to the whole call. Writes `benchmarks/results/overhead.json`.
"""

from __future__ import annotations

import copy
import itertools
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from embedded import MODEL, load_runner
from rich.progress import track
from timing import Row, Timing, compare, judge, parse_arguments, report, time_interleaved

import asymrnr
from asymrnr.adapters import find_adapter
from asymrnr.install import find_sites
from asymrnr.schedule import Schedule
from tuner.run.runner import Runner

TARGET = 1.01
FEATURES = (("Q", "V"), ("H", "Q", "V"))
INSTALLS = 20
RESAMPLES = 4000
SIDE = 4  # patches in height and width of the short call


@dataclass(frozen=True)
class Call:
    """A denoiser, what it is called with in the first step, and the timesteps of a generation."""

    model: torch.nn.Module
    kwargs: dict[str, Any]
    timesteps: torch.Tensor

    def copy(self) -> Call:
        """The same with weights of its own."""
        return replace(self, model=copy.deepcopy(self.model))

    @torch.inference_mode()
    def step(self, index: int) -> torch.Tensor:
        """The denoiser's output in a step; the latents are always the first ones."""
        output: torch.Tensor = self.model(**self.kwargs | {"timestep": self.timesteps[index : index + 1]})[0]
        return output


class Side:
    """Goes through generations step by step, each with the next of some calls, with or without a schedule."""

    def __init__(self, calls: list[Call], schedule: Schedule | None) -> None:
        self._calls, self._schedule = itertools.cycle(calls), schedule
        self._steps, self._stack = len(calls[0].timesteps), ExitStack()
        self._index = 0

    def ready(self) -> None:
        """Install at the beginning of a generation."""
        if self._index == 0:
            self._call = next(self._calls)
            if self._schedule is not None:
                self._stack.enter_context(asymrnr.apply(self._call.model, self._schedule))

    def __call__(self) -> torch.Tensor:
        """The next step; removes at the end of a generation."""
        output = self._call.step(self._index)
        self._index = (self._index + 1) % self._steps
        if self._index == 0:
            self._stack.close()
        return output


def whole_call(runner: Runner) -> Call:
    """The first call a generation makes."""
    seen: list[dict[str, Any]] = []

    def look(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        assert not args
        seen.append(kwargs)

    with ExitStack() as stack:
        stack.callback(runner.denoiser.register_forward_pre_hook(look, with_kwargs=True).remove)
        runner.time_steps(1, runner.entry.tuning_prompts(1)[0])
    return Call(runner.denoiser, seen[0], runner.pipe.scheduler.timesteps)


def short_call(whole: Call) -> Call:
    """The same architecture with only the upper left corner of every frame."""
    config = whole.model.config
    side = SIDE * config.patch_size
    latents = whole.kwargs["hidden_states"]
    rows, columns = (size // config.patch_size for size in latents.shape[3:])
    tables = tuple(
        table.unflatten(0, (-1, rows, columns))[:, :SIDE, :SIDE].flatten(0, 2)
        for table in whole.kwargs["image_rotary_emb"]
    )
    model = type(whole.model).from_config({**config, "sample_height": side, "sample_width": side}).to(latents).eval()
    kwargs = {**whole.kwargs, "hidden_states": latents[..., :side, :side], "image_rotary_emb": tables}
    return Call(model, kwargs, whole.timesteps)


def time_both(schedule: Schedule, call: Call, rounds: int) -> tuple[Timing, Timing]:
    """Installed and plain, so many whole generations of each."""
    calls, outputs = [call, call.copy()], {}
    sides = {"installed": Side(calls, schedule), "plain": Side(calls[::-1], None)}

    def run(name: str) -> None:
        outputs[name] = sides[name]()

    times = time_interleaved(
        {name: partial(run, name) for name in sides},
        rounds * len(call.timesteps) - 1,  # and one to warm up
        before={name: side.ready for name, side in sides.items()},
    )
    if not torch.equal(outputs["installed"], outputs["plain"]):
        raise SystemExit("The installed runtime changed the output at rate 0: the comparison would be void.")
    return times["installed"], times["plain"]


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    picks = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(np.median(values[picks], axis=1), (0.025, 0.975))
    return float(low), float(high)


def install_seconds(runner: Runner, schedule: Schedule) -> float:
    """Median time to install and remove."""
    taken = []
    for _ in range(INSTALLS):
        began = time.perf_counter()
        asymrnr.apply(runner.pipe, schedule).remove()
        taken.append(time.perf_counter() - began)
    return float(np.median(taken))


def measure(runner: Runner, features: tuple[str, ...], calls: tuple[Call, Call], rounds: int) -> list[Row]:
    """The rows of a schedule that names some features and reduces none."""
    steps = runner.entry.workload.steps
    blocks = len(find_sites(runner.denoiser, find_adapter(runner.denoiser)))
    schedule = Schedule(rates={feature: np.zeros((blocks, steps)) for feature in features})
    case = f"{MODEL}, one step, {' '.join(features)} at rate 0"
    installed, plain = time_both(schedule, calls[0], rounds)
    low, high = interval(installed.seconds / plain.seconds)
    whole = compare(case, installed, "plain", plain, TARGET)
    whole["text"] = f"95 % interval of the median {low:.4f} to {high:.4f}; {whole['text']}"
    short_installed, short_plain = time_both(schedule, calls[1], rounds)
    added = short_installed.seconds - short_plain.seconds
    low, high = (1e3 * value for value in interval(added))
    text = f"{1e3 * np.median(added):.3g} ms ({low:.3g} to {high:.3g}) on top of a short call of {short_plain}"
    taken = install_seconds(runner, schedule)
    return [
        whole,
        judge(case, "added / plain", float(np.median(added)) / plain.median, TARGET - 1, text),
        judge(case, "installing / generation", taken / (steps * plain.median), None, f"{taken * 1e3:.3g} ms once"),
    ]


def main() -> None:
    arguments = parse_arguments(__doc__, "overhead", rounds=10)
    runner = load_runner(arguments.device, arguments.quick)
    whole = whole_call(runner)
    calls = whole, short_call(whole)
    rows: list[Row] = []
    for features in track(FEATURES, description="overhead"):
        rows += measure(runner, features, calls, arguments.rounds)
    report(rows, arguments, ["A round is a generation of each side; their calls alternate. Nothing is decoded."])


if __name__ == "__main__":
    main()
