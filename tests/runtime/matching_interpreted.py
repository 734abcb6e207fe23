"""Run by test_matching_triton.py in a process of its own, with TRITON_INTERPRET=1: the kernel against the reference."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

import asymrnr
from asymrnr import Schedule
from asymrnr.matching import match_chunked, match_tokens
from asymrnr.partition import make_partition
from tests.runtime.matching_cases import DTYPES, METRICS, check_close, check_ties, clustered
from tests.runtime.tiny import build, run, wan

DIMS = (3, 64, 80, 128, 130)
SMALL = make_partition((3, 7, 9), (2, 2, 2), torch.Generator().manual_seed(0))  # nothing divides anything


@pytest.fixture(autouse=True)
def _kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.environ["TRITON_INTERPRET"] == "1"
    monkeypatch.setenv("ASYMRNR_MATCHING", "triton")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", METRICS)
def test_equals_the_reference(metric: str, dtype: torch.dtype) -> None:
    check_close(clustered((2, 3, SMALL.tokens, 20), dtype), SMALL, metric)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dim", DIMS)
def test_any_number_of_channels(dim: int, dtype: torch.dtype) -> None:
    check_close(clustered((1, 2, SMALL.tokens, dim), dtype), SMALL, "euclidean")


def test_every_tile_configuration_that_ships_is_among_them() -> None:
    """The head dims of the tests above have all tiles that any head dim has."""
    from asymrnr.matching_triton import tiles_for

    covered = {tiles_for(dim, dtype) for dim in (20, *DIMS) for dtype in (torch.float32, torch.bfloat16)}
    shipped = {tiles_for(dim, dtype) for dim in range(1, 4097) for dtype in DTYPES}
    assert covered == shipped


@pytest.mark.parametrize("metric", METRICS)
def test_joint_sequences_with_tokens_before_heads_are_read_in_place(metric: str) -> None:
    joint = clustered((2, SMALL.tokens + 8, 3, 32), torch.bfloat16).transpose(1, 2)
    check_close(joint[:, :, 5:-3], SMALL, metric)


@pytest.mark.parametrize("metric", METRICS)
def test_ties_go_to_the_first_destination(metric: str) -> None:
    check_ties(metric, torch.device("cpu"))


def test_features_that_need_gradients_are_matched() -> None:
    x = clustered((1, 1, SMALL.tokens, 16), torch.float32).requires_grad_()
    distance, _ = match_tokens(x, SMALL)
    assert not distance.requires_grad
    torch.testing.assert_close(distance, match_chunked(x, SMALL)[0])


def test_works_inside_a_compiled_model(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    model, inputs = build(wan)
    schedule = Schedule(rates={"Q": np.full((2, 1), 0.5), "V": np.full((2, 1), 0.4)})
    monkeypatch.setenv("ASYMRNR_MATCHING", "reference")
    with asymrnr.apply(model, schedule):
        want = run(model, inputs)
    monkeypatch.setenv("ASYMRNR_MATCHING", "triton")
    monkeypatch.setattr("asymrnr.matching.match_chunked", None)  # calling it would fail
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with asymrnr.apply(compiled, schedule) as handle:
        torch.testing.assert_close(run(compiled, inputs), want)
        assert handle.summary().reduced["Q"].sum() == 2
