"""Makes measurements on a loaded pipeline: the one place where a job becomes values and arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import combinations

import torch

from asymrnr.schedule import Schedule
from asymrnr.sections import ScheduleSection
from tuner.latency.micro import Sites, look_at_sites, measure_sites
from tuner.latency.model import LatencyModel
from tuner.profile.checkpoint import Checkpoint
from tuner.profile.settings import ProfilerSettings
from tuner.profile.watch import look, observe, observe_generation
from tuner.quality.metrics import mse
from tuner.run.allocations import peak_bytes, peak_from_now
from tuner.run.job import Job, Made, Told
from tuner.run.pair import to_record
from tuner.run.runner import Runner
from tuner.run.store import PEAK
from tuner.work.bench import Bench
from tuner.work.caches import magnitude_ratios


def perform(job: Job, bench: Bench, told: Told) -> Made:
    """Make a measurement.

    Args:
        job: what to measure; its kind is one of `WORK`.
        bench: the model.
        told: progress.

    Raises:
        NonFiniteError: a schedule makes the model produce NaN.
        UsageError: the model itself does, or its pipeline refuses the workload.
    """
    device = bench.runner.device
    peak_from_now(device)
    values, arrays = WORK[job.kind](job, bench, told)
    peak = peak_bytes(device)
    return (values if peak is None else {**values, PEAK: peak}), arrays


def _attention_sites(job: Job, bench: Bench, told: Told) -> Made:
    return asdict(look_at_sites(bench.runner, job.work["prompt"])), {}


def _site_latency(job: Job, bench: Bench, told: Told) -> Made:
    sites = Sites.from_dict(job.work["sites"])
    return measure_sites(sites, tuple(job.key["strides"]), bench.runner.device).to_dict(), {}


def _first_steps(job: Job, bench: Bench, told: Told) -> Made:
    steps, prompt = job.key["steps"], job.key["prompt"]
    plain, tuned, mode = bench.in_turn(
        lambda runner, **how: runner.time_steps(steps, prompt, **how), _schedule(job), order=0
    )
    return {"plain": plain.tolist(), "tuned": tuned.tolist(), "mode": mode}, {}


def _pair(job: Job, bench: Bench, told: Told) -> Made:
    prompt, seed, schedule = job.key["prompt"], job.key["seed"], _schedule(job)
    plain, tuned, mode = bench.in_turn(
        lambda runner, **how: runner.generate(prompt, seed, **how), schedule, seed + job.key["repeat"]
    )
    return to_record(plain, tuned, schedule, mode)


def _profile(job: Job, bench: Bench, told: Told) -> Made:
    settings, seed = ProfilerSettings.from_dict(job.work["settings"]), job.key["seed"]
    latency = LatencyModel.from_dict(job.work["latency"], job.work["blocks"], settings.total_steps)
    checkpoint = None if bench.unfinished is None else Checkpoint(bench.unfinished, job.key_hash)

    def begun(step: int, total: int) -> None:
        told(step, total, "")

    if job.work["glance"]:
        profile, _ = observe_generation(bench.runner, settings, seed, latency, begun, checkpoint)
    else:  # somebody else has it
        profile, _ = observe(bench.runner, settings, seed, latency, begun, checkpoint)
    values, arrays = profile.to_record()
    return {"profile": values}, arrays


def _glance(job: Job, bench: Bench, told: Told) -> Made:
    settings = ProfilerSettings.from_dict(job.work["settings"])
    seen = look(bench.runner, settings, job.key["prompt"], job.key["seed"], lambda step, total: told(step, total, ""))
    return {"timesteps": seen.timesteps.tolist()}, dict(seen.raw_similarity)


def _noise_floor(job: Job, bench: Bench, told: Told) -> Made:
    prompts, seeds, first = job.key["prompts"], job.key["seeds"], job.key["first_seed"]
    runner = Runner(bench.runner.pipe, bench.runner.entry.with_workload(steps=job.key["steps"]))
    errors: list[float] = []
    for number, prompt in enumerate(prompts):
        videos: list[torch.Tensor] = []
        for seed in range(seeds):
            told(number * seeds + seed, len(prompts) * seeds, prompt)
            videos.append(runner.generate(prompt, first + seed).video)
        errors += [mse(one, other) for one, other in combinations(videos, 2)]
    return {"errors": errors}, {}


def _magnitude_ratios(job: Job, bench: Bench, told: Told) -> Made:
    return {"ratios": magnitude_ratios(bench.runner, job.key["prompt"], job.key["seed"])}, {}


def _schedule(job: Job) -> Schedule:
    schedule = ScheduleSection.model_validate(job.work["schedule"]).schedule()
    assert schedule.content_hash() == job.key["schedule"]
    return schedule


WORK: Mapping[str, Callable[[Job, Bench, Told], Made]] = {
    "attention-sites": _attention_sites,
    "site-latency": _site_latency,
    "first-steps": _first_steps,
    "pair": _pair,
    "profile": _profile,
    "glance": _glance,
    "noise-floor": _noise_floor,
    "magnitude-ratios": _magnitude_ratios,
}
