"""Two prompts are compared by how they rank the sites, at the timesteps of the shorter one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from tuner.profile.agreement import agreement, at_timesteps


def test_the_correlation_is_spearmans_and_lies_in_its_interval() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(6, 10))
    other = one + 0.5 * rng.normal(size=one.shape)
    found = agreement(one, other)
    assert found.spearman == pytest.approx(spearmanr(one.ravel(), other.ravel()).statistic)
    assert found.low < found.spearman < found.high
    assert agreement(one, np.exp(one)).spearman == pytest.approx(1)  # ranks only
    assert agreement(one, rng.normal(size=one.shape)).spearman < 0.5
    assert agreement(one, np.zeros_like(one)).spearman == 0


def test_tables_are_read_at_other_timesteps() -> None:
    timesteps = np.array([999.0, 500.0, 1.0])
    table = np.array([[0.0, 1.0, 3.0]])
    wanted = np.array([999.0, 749.5, 250.5])
    np.testing.assert_allclose(at_timesteps(table, timesteps, wanted), [[0.0, 0.5, 2.0]])
