"""The bound on what damping is worth, against tokens that change at random."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.damping import remaining


@pytest.mark.parametrize("alike", [0.0, 0.5, 0.9])
def test_it_is_what_the_best_factor_leaves(alike: float) -> None:
    rng = np.random.default_rng(0)
    own, noise = rng.standard_normal((2, 200_000))
    match = alike * own + np.sqrt(1 - alike**2) * noise  # changes as much, and so much alike
    with_memory, broadcast = np.square(match - own).mean(), np.square(own).mean()
    beta = (own @ match) / (match @ match)
    least = np.square(beta * match - own).mean()
    rate = 0.5
    profile: Any = SimpleNamespace(
        rates=np.array([0.0, rate]),
        memory_error={"2x2x2": np.array([[[[0.0, rate * with_memory]]]])},
        broadcast_error={"2x2x2": np.array([[[broadcast]]])},
    )
    assert remaining(profile)[rate] == pytest.approx([least / with_memory], rel=0.02)
