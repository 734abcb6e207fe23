"""Muon in single precision: torch's steps but for rounding, and what orthogonalising does to singular values."""

from __future__ import annotations

import pytest
import torch

from tuner.embedded.muon import Muon, orthogonalised

SHAPES = [(16, 16), (16, 48), (48, 16), (16, 16)]
COEFFICIENTS = (3.4445, -4.775, 2.0315)


def some_parameters() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(0.1 * torch.randn(shape, generator=generator)) for shape in SHAPES]


def test_steps_are_torchs_but_for_its_rounding() -> None:
    ours, theirs = some_parameters(), some_parameters()
    generator = torch.Generator().manual_seed(1)
    optimizer = Muon(ours, lr=0.01, weight_decay=0.1)
    other = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    before = [p.detach().clone() for p in ours]
    for _ in range(5):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        optimizer.step()
        other.step()
    for old, p, q in zip(before, ours, theirs, strict=True):
        assert (p - q).norm() < 0.03 * (q - old).norm()
    assert set(optimizer.state[ours[0]]) == set(other.state[theirs[0]])  # checkpoints of either can be resumed


def test_what_has_no_gradient_stays_as_it_is() -> None:
    [first, *others] = some_parameters()
    old = first.detach().clone()
    for p in others:
        p.grad = torch.ones_like(p)
    Muon([first, *others], lr=0.01, weight_decay=0.1).step()
    assert torch.equal(first, old)


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_singular_vectors_stay_and_values_come_near_one(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(2))
    found = orthogonalised(matrices, COEFFICIENTS, 5, 1e-7)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    values = left.mT @ found @ right.mT
    diagonal = values.diagonal(dim1=1, dim2=2)
    assert (values - torch.diag_embed(diagonal)).abs().max() < 1e-3
    assert diagonal.min() > 0.5
    assert diagonal.max() < 1.5
