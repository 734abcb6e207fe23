"""`asymrnr-tune check`: what artifacts claim, what counts as worse, and the exit codes that pipelines go by."""

from __future__ import annotations

import copy
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student

from asymrnr.artifact import Artifact
from asymrnr.artifact_io import save_artifact
from tuner import cli
from tuner.check.claims import Claim, Estimate, claims
from tuner.check.comparison import compare
from tuner.errors import UsageError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["asymrnr-tune", "check", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        streams = capsys.readouterr()
        return int(stop.value.code or 0), streams.out, streams.err

    return call


@pytest.fixture
def made(document: dict[str, Any]) -> Callable[..., Artifact]:
    """An artifact for 1.3x with this speed-up, bound and PSNR (34 dB ± 1)."""

    def make(point: float = 1.33, bound: float | None = 1.31, psnr: float = 34.0, **changes: Any) -> Artifact:
        own = copy.deepcopy(document) | {"target": 1.3}
        own["evidence"]["speedup"] |= {"point": point, "lower_bound_95": bound}
        own["evidence"]["quality"]["psnr"] = {"value": psnr, "low": psnr - 1, "high": psnr + 1}
        return Artifact.model_validate(own | changes)

    return make


def test_claims_say_what_was_measured_and_what_was_not(made: Callable[..., Artifact]) -> None:
    artifact = made()
    point = {"target": 1.1, "schedule": artifact.schedule, "prediction": {"speedup": 1.14}}
    slow, own = claims(artifact.model_copy(update={"frontier": (artifact.points()[0].model_validate(point),)}))
    assert (slow.name, slow.verdict, slow.speedup, slow.quality) == ("1.1x", "predicted", "1.140x predicted", "-")
    assert (own.name, own.verdict, own.pairs) == ("1.3x", "certified", 2)
    assert (own.speedup, own.quality) == ("1.330x, at least 1.310x", "34.0 ± 1.0 dB")


def test_a_single_pair_has_no_bound(made: Callable[..., Artifact]) -> None:
    (claim,) = claims(made(bound=None))
    assert claim.speedup == "1.330x, n = 1"
    assert Claim(None, "predicted").name == "as it is"


@pytest.mark.parametrize(
    ("changes", "trends"),
    [
        ({}, ["same", "same"]),
        ({"point": 1.31, "bound": 1.30}, ["same", "same"]),
        ({"point": 1.24, "bound": 1.22}, ["worse", "same"]),
        ({"point": 1.45, "bound": 1.43, "psnr": 31.0}, ["better", "worse"]),
        ({"bound": None}, ["same", "same"]),
        ({"psnr": 32.7}, ["same", "same"]),
        ({"psnr": 32.5}, ["same", "worse"]),
    ],
)
def test_worse_is_what_exceeds_both_uncertainties(
    made: Callable[..., Artifact], changes: dict[str, Any], trends: list[str]
) -> None:
    found = compare(made(), made(**changes))
    assert [change.trend for change in found.changes] == trends
    assert [change.quantity for change in found.changes] == ["speed-up", "PSNR"]


def test_a_lost_certificate_is_worse_and_a_new_one_better(made: Callable[..., Artifact]) -> None:
    failed = made(gates=[{"name": "video", "verdict": "FAIL"}])
    (verdict, *_), settings = compare(made(), failed).changes, compare(made(), failed).settings
    assert (verdict.before, verdict.after, verdict.trend) == ("certified", "refused", "worse")
    assert compare(failed, made()).changes[0].trend == "better"
    assert settings == ()
    gone = compare(made(), made(target=1.5)).changes
    assert [(c.name, c.before, c.after, c.trend) for c in gone] == [
        ("1.3x", "certified", "missing", "worse"),
        ("1.5x", "missing", "certified", "better"),
    ]


def test_what_else_differs_is_said(made: Callable[..., Artifact], document: dict[str, Any]) -> None:
    schedule = document["schedule"] | {"cache_step": 2}
    provenance = {"environment": {"threads": 8, "gpu": None, "torch": "2.9"}}
    settings = compare(made(), made(schedule=schedule, provenance=provenance)).settings
    assert settings == (
        "The schedules differ.",
        "cache_step was 3 and is 2 here.",
        "machine.threads was 2 and is 8 here.",
    )


def test_other_workloads_are_not_compared(made: Callable[..., Artifact], document: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"frames was 12 and is 9 here\. Compare those of one workload"):
        compare(made(), made(workload=document["workload"] | {"frames": 9}))


def test_equal_schedules_seldom_seem_worse() -> None:
    """Four pairs each, as certificates begin with; speed one-sided, PSNR two-sided."""
    rng, n, tries, worse = np.random.default_rng(0), 4, 4000, np.zeros(2)
    for _ in range(tries):
        values = rng.normal(0, 1, (2, n))
        means, errors = values.mean(axis=1), values.std(axis=1, ddof=1) / math.sqrt(n)
        for index, confidence in enumerate((0.95, 0.975)):
            was, now = (Estimate(m, e * student.ppf(confidence, n - 1)) for m, e in zip(means, errors, strict=True))
            worse[index] += was.value - now.value > math.hypot(was.half_width, now.half_width)
    assert (worse / tries < 0.05).all()
    assert (worse > 0).all()


def test_exit_codes_are_what_a_pipeline_goes_by(run: Run, made: Callable[..., Artifact], tmp_path: Path) -> None:
    good, slow, refused, broken = (tmp_path / f"{name}.json" for name in ("good", "slow", "refused", "broken"))
    save_artifact(made(), good)
    save_artifact(made(point=1.2, bound=1.19), slow)
    save_artifact(made(gates=[{"name": "video", "verdict": "FAIL"}]), refused)
    broken.write_text("{}")

    code, out, err = run(good)
    assert (code, err) == (0, "")
    assert "1.330x, at least 1.310x" in out
    assert run(good, "--against", good)[0] == 0
    code, _, err = run(slow, "--against", good)
    assert code == 8
    assert "1.3x speed-up 1.330x, at least 1.310x before, 1.200x, at least 1.190x now" in err
    code, out, err = run(good, refused)
    assert code == 4
    assert "refused: video" in out
    assert "refused.json; tune or certify again" in err
    assert run(broken)[0] == 2
    assert run(good, slow, "--against", good)[0] == 2
    assert run(tmp_path / "absent.json")[0] == 2


def test_other_programs_and_job_summaries_can_read_it(run: Run, made: Callable[..., Artifact], tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    save_artifact(made(), good)
    code, out, _ = run(good, "--against", good, "--format", "json")
    document = json.loads(out)
    (artifact,) = document["artifacts"].values()
    assert code == document["against"]["worse"] == 0
    assert artifact["certified"]
    assert artifact["schedules"][0]["lower_bound_95"] == pytest.approx(1.31)
    out = run(good, "--against", good, "--format", "markdown")[1]
    assert f"### {good}" in out
    assert "| 1.3x | certified | 1.330x, at least 1.310x | 34.0 ± 1.0 dB | 2 |" in out
    assert "Nothing got worse beyond its uncertainty." in out


def test_an_attestation_says_which_gates_passed(run: Run, made: Callable[..., Artifact], tmp_path: Path) -> None:
    good, refused = tmp_path / "good.json", tmp_path / "refused.json"
    saved = save_artifact(made(), good)
    save_artifact(made(gates=[{"name": "video", "verdict": "FAIL", "message": "too different"}]), refused)
    document = json.loads(run(good, "--format", "predicate")[1])
    assert document["result"] == "PASSED"
    assert document["configuration"] == [{"name": str(good), "digest": {"sha256": saved.sha256}}]
    assert document["passedTests"] == [f"{good} 1.3x speedup: reached"]
    document = json.loads(run(good, refused, "--format", "predicate")[1])
    assert document["result"] == "FAILED"
    assert document["failedTests"] == [f"{refused} 1.3x video: too different"]


def test_a_step_of_a_pipeline_hands_on_what_came_out(run: Run, made: Callable[..., Artifact], tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    save_artifact(made(), good)
    out = run(good, "--format", "outputs")[1]
    assert out.splitlines() == [f"artifact={good}", "verdict=certified", "speedup=1.3300", "lower-bound=1.3100"]
