"""How the denoiser's output changes, against the formula written out."""

from __future__ import annotations

import numpy as np
import torch

from tuner.profile.reuse import DenoiserChanges

STEPS, GAPS = 6, 3


def expected(outputs: torch.Tensor) -> np.ndarray:
    """Of outputs (steps, calls, ...)."""
    table = np.full((len(outputs), GAPS), np.nan)
    for step in range(len(outputs)):
        for gap in range(1, min(GAPS, step) + 1):
            change = (outputs[step] - outputs[step - gap]).square().sum() / outputs[step].square().sum()
            table[step, gap - 1] = float(change)
    return table


def test_changes_are_those_of_all_calls_of_a_step_relative_to_its_square() -> None:
    for calls in (1, 2):
        outputs = torch.randn(STEPS, calls, 2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        found = DenoiserChanges(STEPS, GAPS)
        assert not found.seen
        for step in range(STEPS):
            for call in range(calls):
                found.add(step, outputs[step, call].float())
        assert found.seen
        np.testing.assert_allclose(found.table(), expected(outputs), rtol=1e-5)


def test_outputs_are_kept_as_they_were() -> None:
    output = torch.ones(2, 2)
    found = DenoiserChanges(2, 1)
    found.add(0, output)
    output.mul_(3)  # by a sampler that works in place
    found.add(1, output)
    np.testing.assert_allclose(found.table(), [[np.nan], [(3 - 1) ** 2 / 3**2]])


def test_calls_without_a_counterpart_are_left_out() -> None:
    found = DenoiserChanges(2, 1)
    found.add(0, torch.ones(2, 2))
    found.add(1, torch.full((2, 2), 2.0))
    found.add(1, torch.full((2, 2), 9.0))  # a guidance branch that begins later
    found.add(1, torch.ones(4, 2))
    np.testing.assert_allclose(found.table(), [[np.nan], [0.25]])


def test_nothing_changes_where_outputs_stay_and_silence_is_not_known() -> None:
    found = DenoiserChanges(3, 2)
    for step, value in enumerate((1.0, 1.0, 0.0)):
        found.add(step, torch.full((2, 2), value))
    np.testing.assert_allclose(found.table(), [[np.nan, np.nan], [0.0, np.nan], [np.nan, np.nan]])
