from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import diffusers
import pytest
import torch

from tests.pipelines.tiny_pipelines import build, tiny_entry
from tuner.models.backend import use_attention_backend
from tuner.run.identity import describe_workload, differences, environment, subject
from tuner.run.instrument import Instrument
from tuner.run.ledger import Ledger
from tuner.run.runner import Runner
from tuner.run.store import MeasurementStore, key_hash


def test_the_environment_is_plain_and_names_what_timings_depend_on() -> None:
    here = environment()
    assert json.loads(json.dumps(here)) == here
    assert here["torch"] == torch.__version__
    assert here["threads"] == torch.get_num_threads()
    assert {"python", "platform", "cpu", "gpu", "diffusers", "asymrnr"} <= here.keys()
    assert differences(here, environment()) == []


def test_differences_are_sentences() -> None:
    recorded = {"threads": 4, "gpu": None, "cpu": "A", "workload": {"steps": 30, "size": [64, 64]}, "extra": 1}
    current = {"threads": 2, "gpu": None, "cpu": "A", "workload": {"steps": 50, "size": (64, 64)}, "dtype": "bf16"}
    assert differences(recorded, current) == [
        "dtype was not recorded and is 'bf16' here.",
        "threads was 4 and is 2 here.",
        "workload.steps was 30 and is 50 here.",
    ]


def test_something_recorded_that_is_gone_is_a_difference() -> None:
    assert differences({"gpu": "H200"}, {"gpu": None}) == ["gpu was 'H200' and is absent here."]


def tiny_runner() -> Runner:
    return Runner(build("wan-1.3b"), tiny_entry("wan-1.3b", 3))


def test_the_subject_names_all_that_a_measurement_depends_on() -> None:
    runner = tiny_runner()
    found = subject(runner)
    assert json.loads(json.dumps(found)) == found
    assert found == {
        "model": "wan-1.3b",
        "weights": "unsaved",
        "transformer": "WanTransformer3DModel",
        "workload": {
            **runner.entry.workload.as_dict(),
            "scheduler": "UniPCMultistepScheduler",
            "dtype": "float32",
            "attention_backend": "native",
        },
        "device": "cpu",
    }
    assert found["workload"] == describe_workload(runner)
    assert {"frames", "height", "width", "steps", "guidance_scale"} <= found["workload"].keys()
    assert subject(tiny_runner()) == found


def other_steps(runner: Runner) -> None:
    runner.entry = runner.entry.with_workload(steps=4)


def other_model(runner: Runner) -> None:
    runner.entry = replace(runner.entry, name="another")


def other_scheduler(runner: Runner) -> None:
    runner.pipe.scheduler = diffusers.FlowMatchHeunDiscreteScheduler()


def other_dtype(runner: Runner) -> None:
    runner.pipe.to(torch.bfloat16)


def other_backend(runner: Runner) -> None:
    use_attention_backend(runner.pipe, "_native_math")


def other_weights(runner: Runner) -> None:
    runner.pipe.register_to_config(_name_or_path=str(Path(__file__).parent))


@pytest.mark.parametrize(
    "change", [other_steps, other_model, other_scheduler, other_dtype, other_backend, other_weights]
)
def test_another_subject_is_measured_anew(change: Callable[[Runner], None], tmp_path: Path) -> None:
    runner = tiny_runner()
    before = subject(runner)
    change(runner)
    after = subject(runner)
    assert len(differences(before, after)) == 1
    with MeasurementStore(tmp_path) as store:
        hashes = {key_hash(Instrument(store, Ledger(1), found).key("pair", seed=0)) for found in (before, after)}
    assert len(hashes) == 2
