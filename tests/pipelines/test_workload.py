"""Another workload than the registry's: what is refused, what is kept, and few steps and prompts in every stage."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import asymrnr
from asymrnr.sections import WorkloadSection
from tests.pipelines.tiny_pipelines import build, tiny_entry
from tuner.certify.statistics import LOOKS
from tuner.cli import app
from tuner.context import TuneOptions
from tuner.errors import BudgetExhaustedError, UsageError
from tuner.latency import micro
from tuner.latency.model import Coefficients
from tuner.models import REGISTRY, VideoSizes, WorkloadOptions
from tuner.models.prompts import LEAST_HELD_OUT, TUNED_ON, read_prompts
from tuner.models.workload import LEAST_SIDE
from tuner.opening import open_scratch
from tuner.quality.lpips import SMALLEST_SIDE
from tuner.report.profile_plots import profile_figures
from tuner.run.identity import differences, subject
from tuner.run.runner import Runner
from tuner.search.study import search
from tuner.stages.certify import certify
from tuner.stages.noise_floor import measure_noise_floor
from tuner.stages.preflight import measure_latency
from tuner.stages.profile import profile_model

MODEL = "ltx-video"
PROMPTS = tuple(f"animal number {i}" for i in range(TUNED_ON + LEAST_HELD_OUT))


@pytest.mark.parametrize("name", REGISTRY)
def test_every_model_allows_its_own_workload(name: str) -> None:
    entry = REGISTRY[name]
    w = entry.workload
    assert (w.frames - 1) % entry.sizes.frames == 0
    assert entry.sizes.sides is None or w.height % entry.sizes.sides == w.width % entry.sizes.sides == 0
    assert entry.sizes.most_frames is None or w.frames <= entry.sizes.most_frames
    if entry.starts_from is None:  # others need a user's pictures or videos
        assert WorkloadOptions().completed(w.as_dict()).of(entry) == WorkloadOptions().of(entry) == entry


def test_what_is_not_chosen_stays() -> None:
    entry = WorkloadOptions(steps=8, width=640).of(REGISTRY["mochi"])
    assert entry == REGISTRY["mochi"].with_workload(steps=8, width=640)
    assert entry.workload.guidance_scale == REGISTRY["mochi"].workload.guidance_scale


def test_guidance_in_two_passes_is_asked_for_and_told_apart() -> None:
    plain = tiny_entry("hunyuanvideo", 2)
    guided = plain.with_workload(true_cfg_scale=4.0)
    pipe = build("hunyuanvideo")
    one, two = Runner(pipe, plain), Runner(pipe, guided)
    videos = [runner.generate("a cat", 0).latents for runner in (one, two)]
    assert not torch.equal(*videos)
    assert WorkloadSection(**subject(two)["workload"]).true_cfg_scale == 4
    assert "true_cfg_scale" not in subject(one)["workload"]


@pytest.mark.parametrize(
    ("model", "chosen", "says"),
    [
        ("mochi", {"steps": 1}, "--steps is 1; give at least 2"),
        ("mochi", {"frames": 0}, "--frames is 0"),
        ("mochi", {"frames": 84}, "multiple of 6; give 79 or 85"),
        ("animatediff", {"frames": 33}, "at most 32 frames"),
        ("mochi", {"height": -16}, "at least 32 pixels"),
        ("mochi", {"width": 100}, "multiples of 16 pixels; give 96 or 112"),
        ("animatediff", {"height": 40}, "multiples of 64 pixels; give 64"),
        ("tiny-cogvideox", {"height": 96}, "no other than 64 pixels"),
        ("tiny-cogvideox", {"prompts": PROMPTS}, "'animal number 0' is not a caption"),
        ("mochi", {"prompts": (*PROMPTS[1:], PROMPTS[1])}, "6 different prompts, but 7 are needed"),
    ],
)
def test_impossible_workloads_are_one_sentence_before_any_work(model, chosen, says, tmp_path: Path) -> None:
    options = TuneOptions(model, 1.1, tmp_path / "run", workload=WorkloadOptions(**chosen))
    with pytest.raises(UsageError, match=rf"^(?=--)[^\n]*{says}[^\n]*$"):
        options.model_entry()


def test_no_side_is_allowed_that_a_metric_refuses_later() -> None:
    assert LEAST_SIDE == SMALLEST_SIDE


def test_prompt_files_have_one_prompt_a_line(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeff# mine\r\n a cät \r\n\r\n  # not this\r\na dog".encode())
    assert read_prompts(path) == ("a cät", "a dog")
    path.write_bytes("a cät".encode("latin-1"))
    for wrong, reason in ((path, "not UTF-8"), (tmp_path, "cannot be read"), (tmp_path / "none.txt", "No such file")):
        with pytest.raises(UsageError, match=reason):
            read_prompts(wrong)


@pytest.mark.parametrize("more", [0, 20])
def test_no_prompt_is_both_tuned_and_certified_on(more: int) -> None:
    prompts = (*PROMPTS, PROMPTS[0], PROMPTS[5], *(f"prompt {i}" for i in range(more)))
    entry = WorkloadOptions(prompts=prompts).of(REGISTRY[MODEL])
    tuning, held_out = entry.tuning_prompts(TUNED_ON), entry.held_out_prompts(24)
    assert tuning == list(PROMPTS[:TUNED_ON])
    assert len(held_out) == min(24, LEAST_HELD_OUT + more) == len({*tuning, *held_out}) - TUNED_ON


def test_folders_are_named_after_what_differs() -> None:
    entry = REGISTRY["mochi"]
    same = WorkloadOptions(steps=entry.workload.steps, height=entry.workload.height)
    assert same.name(entry) == WorkloadOptions().name(entry) == "mochi"
    assert WorkloadOptions(8, 79, width=640).name(entry) == "mochi-79-frames-480x640-8-steps"
    assert WorkloadOptions(prompts=PROMPTS).name(entry) == "mochi-own-prompts"


def test_options_survive_the_store_and_earlier_runs_are_read() -> None:
    for workload in (WorkloadOptions(), WorkloadOptions(8, 79, 480, 640, PROMPTS)):
        options = TuneOptions(MODEL, 1.1, Path("run"), workload=workload)
        stored = json.loads(json.dumps(options.to_dict()))
        assert stored == options.to_dict()
        assert TuneOptions.from_dict(stored) == options
    del stored["workload"]
    assert TuneOptions.from_dict(stored) == replace(options, workload=WorkloadOptions())


def test_another_workload_is_another_subject_and_nothing_else_is() -> None:
    runner = Runner(build("wan-1.3b"), tiny_entry("wan-1.3b"))
    before = subject(runner)
    runner.entry = WorkloadOptions(steps=4, frames=13, width=80, prompts=PROMPTS).of(runner.entry)
    found = [sentence.split()[0] for sentence in differences(before, subject(runner))]
    assert found == ["workload.frames", "workload.steps", "workload.width"]


def test_what_a_pipeline_refuses_is_one_sentence_and_other_mistakes_are_not_hidden() -> None:
    entry = replace(tiny_entry(MODEL), sizes=VideoSizes())
    runner = Runner(build(MODEL), WorkloadOptions(height=40).of(entry))
    with pytest.raises(UsageError, match=r"^ltx-video cannot generate 9 frames 40x32, 3 steps: [^\n]*divisible by 32"):
        runner.time_steps(1, "a cat")

    def broken(call: asymrnr.AttentionCall) -> None:
        raise ValueError("a mistake")

    runner.entry = entry
    with pytest.raises(ValueError, match="a mistake"):
        runner.generate("a cat", 0, observer=broken)


def test_every_command_that_loads_a_model_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["--target-speedup", "1.1"], ["profile"], ["generate", "--prompt", "a cat"]):
        done = CliRunner().invoke(app, [*command, "--model", MODEL, "--frames", "8"])
        assert isinstance(done.exception, UsageError)
        assert "give 1 or 9" in str(done.exception)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("steps", [2, 3])
def test_few_steps_and_few_prompts_do_for_every_stage(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro, "SURFACE_SECONDS", 0.0)
    entry = WorkloadOptions(steps=steps, prompts=PROMPTS).of(tiny_entry(MODEL, 8))
    with open_scratch(Runner(build(MODEL), entry)) as ctx:
        ctx.ledger.budget_ie = 1e6
        measured = measure_latency(ctx)
        profiled = profile_model(ctx, measured)
        assert (measured.steps, profiled.profile.steps) == (steps, steps)
        assert {cache_step for _, cache_step in profiled.profile.q_error} == {1}
        assert profile_figures(profiled.profile)
        cheap = Coefficients(gathering=0.0, matching=0.0, projection=0.0)
        model = replace(measured, step_seconds=1.2 * measured.sites.full_seconds, coefficients=cheap)
        found = search(profiled.profile, model, ctx.space, 1.2, trials=6).candidates[0]
        assert found.schedule.steps == steps
        floor = measure_noise_floor(ctx)
        certification = certify(ctx, found.schedule, found.predicted_speedup, floor)
        seen = [pair.prompt for pair in certification.pairs]
        if certification.cut_short is None:  # the machine let every pair be measured
            assert seen == list(PROMPTS[TUNED_ON:])
            assert certification.alpha == LOOKS[0].alpha
        with pytest.raises(BudgetExhaustedError, match="Only 0 held-out prompts are left"):
            certify(ctx, found.schedule, found.predicted_speedup, floor, attempt=1)
