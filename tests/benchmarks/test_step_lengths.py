"""Weights by another power of a step's length, and the table of what they come to."""

from __future__ import annotations

import numpy as np

from tuner.search.space import SearchSpace, step_lengths

TIMESTEPS = np.array([1000.0, 990.0, 960.0, 800.0, 300.0])


def test_the_power_in_use_is_the_searchs_own() -> None:
    from step_lengths import IN_USE, POWERS, Powered

    space = SearchSpace(strides=("2x2x2",), cache_steps=(5,), rates=(0.0, 0.5))
    for power in POWERS:
        powered = Powered(**space.model_dump(), power=power)
        expected = step_lengths(TIMESTEPS) ** (power - 1)
        np.testing.assert_allclose(powered.steering_weights(TIMESTEPS) / space.steering_weights(TIMESTEPS), expected)
        np.testing.assert_allclose(powered.step_weights(TIMESTEPS) / space.step_weights(TIMESTEPS), expected)
    assert POWERS[IN_USE] == 1


def test_the_table_says_decibels_the_ratio_and_on_how_many_prompts() -> None:
    from step_lengths import COPIED_SPEEDUPS, COPYING, MEMORY, SPEEDUPS, name, tabled

    errors = {0.0: (1e-3, 1e-5), 1.0: (1e-4, 2e-5), 2.0: (1e-4, 1e-4)}
    rows = [
        {"kind": "video", "schedule": name(kind, speedup, power), "mse": mse}
        for kind, speedups in ((MEMORY, SPEEDUPS), (COPYING, COPIED_SPEEDUPS))
        for speedup in speedups
        for power, found in errors.items()
        for mse in found
    ]
    lines = tabled("a-model", [{"kind": "head"}, *rows])
    assert len(lines) == len(SPEEDUPS) + len(COPIED_SPEEDUPS)
    assert lines[0] == f"| a-model | {MEMORY}, {SPEEDUPS[0]:g}x | 40.0 | 43.5 | 40.0 | 0.45 | 1 of 2 |"
