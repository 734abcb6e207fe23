from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest

from asymrnr.artifact import Artifact
from asymrnr.schedule import Schedule
from asymrnr.sections import ScheduleSection
from tests.artifact.hub_server import Hub

SIMILARITY = {
    "Q": np.array([[0.0, 0.65, 0.9], [0.75, 0.7, 0.1]]),
    "V": np.array([[0.9, 0.2, 0.8], [0.5, 0.79, 1.0]]),
}


@pytest.fixture
def schedule() -> Schedule:
    return Schedule.from_thresholds(
        {"Q": {0.6: 0.4, 0.7: 0.8}, "V": {0.8: 0.3}},
        SIMILARITY,
        stride=(1, 2, 2),
        cache_step=3,
        timesteps=(999.0, 500.5, 1.0),
        coverage="paper",
        reduction="mean",
        metric="cosine",
        seed=7,
    )


@pytest.fixture
def document(schedule: Schedule) -> dict[str, Any]:
    """A complete, certified artifact as plain values."""
    return {
        "model": {"repo": "tiny-cogvideox", "transformer": "CogVideoXTransformer3DModel", "blocks": 2, "heads": 2},
        "workload": {"frames": 12, "height": 64, "width": 64, "steps": 3, "guidance_scale": 1.0, "dtype": "float32"},
        "schedule": ScheduleSection.from_schedule(schedule).model_dump(mode="json"),
        "similarity": {"sha256": "0" * 64, "percentiles": [5, 95]},
        "prediction": {"seconds": 2.0, "speedup": 1.31, "error": 0.02, "bound": 0.019, "gap": 0.05, "p": 2},
        "evidence": {
            "baseline_seconds": [2.6, 2.61],
            "tuned_seconds": [2.0, 1.99],
            "speedup": {"point": 1.31, "lower_bound_95": 1.3, "scope": "denoise"},
            "end_to_end": {"point": 1.25, "lower_bound_95": 1.24, "scope": "end_to_end"},
            "relative_mad": 0.01,
            "quality": {"psnr": {"value": 33.0, "low": 31.0, "high": 35.0}, "vbench": {"value": 0.8}},
            "prompts_sha256": "1" * 64,
            "seeds": [0, 1],
        },
        "gates": [{"name": "speedup", "verdict": "PASS", "threshold": 1.3, "value": 1.3, "message": "reached"}],
        "ledger": [{"stage": "profile", "seconds": 3.4, "ie": 1.3, "charges": 1}],
        "provenance": {"environment": {"threads": 2, "gpu": None, "torch": "2.9"}, "command": "asymrnr-tune"},
    }


@pytest.fixture
def artifact(document: dict[str, Any]) -> Artifact:
    return Artifact.model_validate(document)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.setattr(huggingface_hub.constants, name, str(tmp_path / "cache"), raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield hub
    hub.close()
