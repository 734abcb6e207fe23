from __future__ import annotations

import json

import torch

from tuner.run.identity import differences, environment


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
