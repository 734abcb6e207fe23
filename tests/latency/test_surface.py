from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tuner.errors import UsageError
from tuner.latency.surface import LatencySurface


@pytest.fixture(scope="module")
def surface() -> LatencySurface:
    return LatencySurface.measure(
        heads=2,
        head_dim=16,
        grid=(4, 8, 8),
        text_tokens=9,
        batch=2,
        strides=["2x2x2", "3x2x2"],
        dtype=torch.float32,
        device="cpu",
        budget_seconds=0.05,
    )


def test_every_time_is_positive_and_attention_grows_with_both_lengths(surface: LatencySurface) -> None:
    table = np.array(surface.attention)
    assert table.min() > 0
    assert (np.diff(table, axis=0) >= 0).all()
    assert (np.diff(table, axis=1) >= 0).all()
    assert set(surface.matching) == {"2x2x2", "3x2x2"}
    assert min(*surface.matching.values(), *surface.gather_q, *surface.gather_v) > 0


def test_interpolation_hits_the_points_and_is_monotone_between(surface: LatencySurface) -> None:
    exact = replace(surface, shares=(0.1, 0.5, 1.0), attention=((1.0, 2.0, 4.0), (2.0, 5.0, 9.0), (4.0, 9.0, 20.0)))
    assert float(exact.attention_seconds(0.0, 0.0)) == pytest.approx(20.0)
    assert float(exact.attention_seconds(0.5, 0.9)) == pytest.approx(2.0)
    assert float(exact.attention_seconds(0.25, 0.0)) == pytest.approx((9 + 20) / 2)
    rates = np.linspace(0, 0.95, 40)
    seconds = exact.attention_seconds(rates[:, None], rates)
    assert seconds.shape == (40, 40)
    assert (np.diff(seconds, axis=0) <= 1e-12).all()
    assert (np.diff(seconds, axis=1) <= 1e-12).all()
    assert seconds.min() > 0


def test_nothing_is_gathered_at_rate_zero(surface: LatencySurface) -> None:
    assert surface.gather_seconds("Q", 0.0) == 0
    assert surface.gather_seconds("V", np.array([0.0, 0.5]))[1] > 0


def test_a_surface_survives_json(surface: LatencySurface) -> None:
    assert LatencySurface.from_dict(json.loads(json.dumps(surface.to_dict()))) == surface


def test_damage_and_unknown_strides_are_one_sentence(surface: LatencySurface) -> None:
    with pytest.raises(UsageError, match="damaged"):
        LatencySurface.from_dict({})
    with pytest.raises(UsageError, match="damaged"):
        LatencySurface.from_dict({**surface.to_dict(), "attention": [[1.0]]})
    with pytest.raises(UsageError, match="9x9x9"):
        surface.matching_seconds("9x9x9")
