"""What is measured of a pair's videos, where they have nothing of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tuner.certify.gates import drift_gate
from tuner.quality.lpips import Lpips
from tuner.stages.certify import measure_quality


def side(video: torch.Tensor) -> Any:
    return SimpleNamespace(video=video, latents=video)


def test_still_videos_do_not_flicker_and_a_frozen_one_fails() -> None:
    moving = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    still = moving[:1].expand(4, -1, -1, -1)
    pairs: list[Any] = [
        SimpleNamespace(plain=side(plain), tuned=side(tuned))
        for plain, tuned in ((still, still), (moving, moving), (moving, still), (still, moving))
    ]
    lpips = Lpips(weights=None)
    drift = [measure_quality(pair, lpips)["flicker_drift"] for pair in pairs]
    assert np.isfinite(drift).all()
    assert drift[:3] == [1.0, 1.0, 0.0]
    assert [drift_gate("flicker", [ratio] * 4).verdict for ratio in drift] == ["PASS", "PASS", "FAIL", "FAIL"]
