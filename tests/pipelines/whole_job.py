"""Runs the whole job on tiny pipelines, on a simulated device."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

import asymrnr
from asymrnr.artifact import Artifact
from asymrnr.artifact_io import load_artifact
from tests.pipelines.simulated_device import simulated_device
from tests.pipelines.tiny_pipelines import build, ready, tiny_entry
from tests.pipelines.unregistered import UNREGISTERED, entry_of
from tuner import opening, pipeline
from tuner.context import AUTO, NoProgress, TuneOptions
from tuner.errors import QualityGateError
from tuner.models import REGISTRY, LoadOptions, ModelEntry, WorkloadOptions
from tuner.models.prompts import LEAST_HELD_OUT, TUNED_ON
from tuner.package import file_name
from tuner.pipeline import tune
from tuner.run.runner import Runner

STEPS, TARGET = 4, 1.1
Loader = Callable[[LoadOptions], DiffusionPipeline]


@dataclass(frozen=True)
class Job:
    """A finished job.

    Attributes:
        entry: the model with the prompts it was tuned and certified on.
        artifact: what was saved.
        folder: of the run.
        load: loads the model once more.
    """

    entry: ModelEntry
    artifact: Artifact
    folder: Path
    load: Callable[[], DiffusionPipeline]


def prompts_of(entry: ModelEntry, folder: Path) -> tuple[str, ...]:
    """Lines of a file of prompts, with a picture or a video each where the model starts from one."""
    texts = [f"animal {number}" for number in range(TUNED_ON + LEAST_HELD_OUT)]
    rng = np.random.default_rng(0)
    height, width, frames = entry.workload.height, entry.workload.width, entry.workload.frames
    if entry.starts_from is None:
        return tuple(texts)
    suffix = ".png" if entry.starts_from == "picture" else ".mp4"
    for text in texts:
        frame = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        if entry.starts_from == "picture":
            Image.fromarray(frame).save(folder / f"{text}{suffix}")
        else:
            shown = [np.roll(frame, 4 * shift, axis=1) for shift in range(frames)]
            iio.imwrite(folder / f"{text}{suffix}", np.stack(shown), plugin="FFMPEG", fps=8)
    return tuple(f"{text}{suffix} | {text}" for text in texts)


@contextmanager
def registered(name: str, loader: Loader | None, with_report: bool) -> Iterator[ModelEntry]:
    """The tiny model in the registry, under its name."""
    with pytest.MonkeyPatch.context() as patch:
        entry = entry_of(name, STEPS) if name in UNREGISTERED else tiny_entry(name, STEPS)
        patch.setitem(REGISTRY, name, entry)
        if loader is not None:
            patch.setattr(opening, "load_pipeline", lambda _, __, options: loader(options))
        if not with_report:
            patch.setattr(pipeline, "write_report", lambda ctx, _: ctx.options.output / "report.html")
        yield entry


def built(name: str) -> DiffusionPipeline:
    """The tiny pipeline."""
    return ready(UNREGISTERED[name][0]) if name in UNREGISTERED else build(name)


def run_job(
    name: str,
    folder: Path,
    load: LoadOptions | None = None,
    loader: Loader | None = None,
    with_report: bool = False,
    target: float = TARGET,
    **options: object,
) -> Job:
    """From preflight to the artifact.

    Args:
        name: of the model.
        folder: for the run and its prompts.
        load: options of the loading that users choose.
        loader: gives the pipeline; by default it is built and used as it is.
        with_report: write the report as well.
        target: speed-up asked for.
        options: others of the run; steps may be left out unless they say otherwise.
    """
    loader = loader or (lambda _: built(name))
    with registered(name, loader, with_report) as entry, simulated_device():
        workload = WorkloadOptions(prompts=prompts_of(entry, folder), folder=str(folder))
        asked = TuneOptions(
            name,
            target,
            folder / "run",
            budget=1e6,
            trials=6,
            load=load or LoadOptions(),
            workload=workload,
            **{"partner": AUTO, **options},  # type: ignore[arg-type]
        )
        with suppress(QualityGateError):  # random weights make of little changes what they like
            tune(asked, NoProgress())
        artifact = load_artifact(folder / "run" / file_name(target))
        return Job(asked.model_entry(), artifact, folder / "run", lambda: loader(asked.load))


def assert_evidence(job: Job) -> None:
    """There is evidence of what was asked for, which agrees with what the artifact says."""
    artifact = job.artifact
    assert artifact.evidence is not None
    assert len(artifact.evidence.seeds) >= LEAST_HELD_OUT
    gates = {gate.name: gate for gate in artifact.gates}
    assert gates["applied"].verdict == "PASS"
    assert gates["speedup"].verdict == "PASS"
    assert artifact.certified == all(gate.verdict != "FAIL" for gate in gates.values())
    schedule = artifact.schedule_object()
    assert (schedule.steps, artifact.workload.steps) == (STEPS, STEPS)


def assert_applies(job: Job) -> None:
    """The artifact fits the pipeline that it was made with, changes its videos, and leaves it as it was."""
    runner = Runner(job.load(), job.entry)
    prompt = job.entry.held_out_prompts(1)[0]
    plain = runner.generate(prompt, 3)
    with warnings.catch_warnings():
        for category in (asymrnr.OtherWorkload, asymrnr.NotCertified):
            warnings.simplefilter("error", category)
        tuned = runner.generate(prompt, 3, job.artifact)
    assert tuned.summary is not None
    assert torch.isfinite(tuned.latents).all()
    assert not torch.equal(tuned.latents, plain.latents)
    assert torch.equal(runner.generate(prompt, 3).latents, plain.latents)
