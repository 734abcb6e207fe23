"""What extrapolating the denoiser's output gets wrong, against the formula written out."""

from __future__ import annotations

import numpy as np
import torch

from tuner.profile.reuse import ExtrapolatedOutputs

STEPS, GAPS = 7, 2
TIMES = (990.0, 900.0, 850.0, 700.0, 400.0, 150.0, 10.0)


def expected(outputs: torch.Tensor) -> np.ndarray:
    """Of outputs (steps, calls, ...)."""
    table = np.full((STEPS, GAPS, GAPS + 1), np.nan)
    for step in range(STEPS):
        for gap in range(1, GAPS + 1):
            for before in range(GAPS + 1):
                last, first = step - gap, step - gap - before - 1
                if last == 0 and before == 0:
                    guess = outputs[0]
                elif first >= 0:
                    far = (TIMES[step] - TIMES[last]) / (TIMES[last] - TIMES[first])
                    guess = outputs[last] + far * (outputs[last] - outputs[first])
                else:
                    continue
                wrong = (guess - outputs[step]).square().sum() / outputs[step].square().sum()
                table[step, gap - 1, before] = float(wrong)
    return table


def test_errors_are_those_of_all_calls_of_a_step_relative_to_its_square() -> None:
    for calls in (1, 2):
        outputs = torch.randn(STEPS, calls, 2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        found = ExtrapolatedOutputs(STEPS, GAPS)
        assert not found.seen
        for step in range(STEPS):
            for call in range(calls):
                found.add(step, TIMES[step], outputs[step, call].float())
        assert found.seen
        np.testing.assert_allclose(found.table(), expected(outputs), rtol=1e-4)


def test_what_changes_evenly_is_extrapolated_exactly_from_two_steps() -> None:
    found = ExtrapolatedOutputs(STEPS, GAPS)
    for step, time in enumerate(TIMES):
        found.add(step, time, torch.tensor([1.0, 2.0]) + 1e-3 * time)
    table = found.table()
    np.testing.assert_allclose(np.nan_to_num(table[GAPS + 1 :]), 0.0, atol=1e-12)
    assert np.isfinite(table[-1]).all()
    assert table[1, 0, 0] > 1e-4  # from the first step on, with nothing before it
    assert np.isnan(table[0]).all()
    assert np.isnan(table[1, 0, 1])


def test_outputs_are_kept_as_they_were() -> None:
    output = torch.ones(2, 2)
    found = ExtrapolatedOutputs(2, 1)
    found.add(0, 2.0, output)
    output.mul_(3)  # by a sampler that works in place
    found.add(1, 1.0, output)
    assert found.table()[1, 0, 0] == np.float64((3 - 1) ** 2 / 3**2)


def test_calls_without_a_counterpart_are_left_out() -> None:
    found = ExtrapolatedOutputs(2, 1)
    found.add(0, 2.0, torch.ones(2, 2))
    found.add(1, 1.0, torch.full((2, 2), 2.0))
    found.add(1, 1.0, torch.full((2, 2), 9.0))  # a guidance branch that begins later
    found.add(1, 1.0, torch.ones(4, 2))
    assert found.table()[1, 0, 0] == 0.25


def test_silence_is_not_known() -> None:
    found = ExtrapolatedOutputs(3, 1)
    for step, value in enumerate((1.0, 1.0, 0.0)):
        found.add(step, 9.0 - step, torch.full((2, 2), value))
    assert found.table()[1, 0, 0] == 0.0
    assert np.isnan(found.table()[2]).all()
