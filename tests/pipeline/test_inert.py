"""Schedules that are of no use are not handed out."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from asymrnr.schedule import Schedule
from tuner import pipeline
from tuner.inert import why_inert


def found(
    rate: float,
    predicted: float,
    sd: float,
    measured: tuple[float, float | None] | None = None,
    failed: str = "speedup",
) -> Any:
    schedule = Schedule({"Q": np.full((2, 4), rate)})
    certification = None
    if measured is not None:
        denoise = SimpleNamespace(point=measured[0], lower_bound_95=measured[1])
        certification = SimpleNamespace(
            schedule=schedule, denoise=denoise, failed=lambda: [SimpleNamespace(name=failed)]
        )
    verification = SimpleNamespace(
        chosen=SimpleNamespace(schedule=schedule),
        predicted_speedup=predicted,
        model=SimpleNamespace(log_speedup_sd=lambda _: sd),
    )
    return SimpleNamespace(
        profiled="a profile", verification=verification, certification=certification, artifact=None, path=None
    )


@pytest.mark.parametrize(
    ("findings", "why"),
    [
        (found(0.0, 1.2, 0.01), "reduces nothing"),
        (found(0.5, 0.98, 0.01), "not faster than the plain model (0.980x)"),
        (found(0.5, 1.02, math.log(1.03)), "less than its uncertainty (1.020x)"),
        (found(0.5, 1.2, 0.01, (0.99, 0.9)), "not faster than the plain model (0.990x)"),
        (found(0.5, 1.2, 0.01, (1.05, 0.98)), "less than its uncertainty (1.050x)"),
        (found(0.5, 0.98, 0.01, (1.05, 0.98), "noise"), "not faster than the plain model (0.980x)"),
        (found(0.5, 1.2, 0.01, (1.05, 0.98), "noise"), None),
        (found(0.5, 1.2, 0.01), None),
        (found(0.5, 0.9, 0.5, (1.2, 1.15)), None),
        (found(0.5, 1.2, 0.01, (1.2, None)), None),
    ],
)
def test_what_is_of_no_use_is_not_saved(
    findings: Any, why: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = SimpleNamespace(output=tmp_path, target_speedup=1.2)
    ctx: Any = SimpleNamespace(options=options, instrument=SimpleNamespace(store=SimpleNamespace(read_only=False)))
    path = tmp_path / "x1.20.json"
    path.write_text("an earlier state of the run")
    monkeypatch.setattr(pipeline, "build_artifact", lambda *_: "an artifact")
    monkeypatch.setattr(pipeline, "save_artifact", lambda artifact, _: artifact)
    pipeline.save(ctx, findings)
    reason = why_inert(findings)
    if why is None:
        assert reason is None
        assert (findings.artifact, findings.path) == ("an artifact", path)
    else:
        assert reason is not None
        assert why in reason
        assert findings.artifact is None
        assert not path.exists()
