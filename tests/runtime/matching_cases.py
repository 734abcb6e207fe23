"""Checks of the fused matching kernel against the reference, shared by interpreter and device."""

from __future__ import annotations

from typing import Any

import torch

from asymrnr.matching import match_chunked, match_tokens
from asymrnr.partition import Partition, make_partition

METRICS = ["euclidean", "cosine", "dot"]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def clustered(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Random features with a common offset three times as large as their spread."""
    generator = torch.Generator().manual_seed(3)
    return (torch.randn(*shape, generator=generator) + 3 * torch.randn(shape[-1], generator=generator)).to(dtype)


def check_close(x: torch.Tensor, partition: Partition, metric: Any) -> None:
    """Equal distances, and the same destinations but where two are equally near within rounding."""
    distance, slot = match_tokens(x, partition, metric)
    want_distance, want_slot = match_chunked(x, partition, metric)
    assert (distance.dtype, slot.dtype) == (torch.float32, torch.int32)
    torch.testing.assert_close(distance, want_distance, rtol=1e-4, atol=1e-4)
    src, dst = partition.src.to(x.device), partition.dst.to(x.device)
    sources, chosen = x[:, :, src].double(), dst[slot.long()]
    picked = x.double().gather(2, chosen[..., None].expand(*chosen.shape, x.shape[-1]))
    exact = {
        "euclidean": lambda: (sources - picked).norm(dim=-1),
        "cosine": lambda: -torch.nn.functional.cosine_similarity(sources, picked, dim=-1),
        "dot": lambda: -(sources * picked).sum(-1),
    }[metric]()
    torch.testing.assert_close(exact, want_distance.double(), rtol=1e-4, atol=1e-4)
    assert (slot == want_slot).double().mean() > 0.999


def check_ties(metric: Any, device: torch.device) -> None:
    """Integer features of few values, whose products are exact in float32 and TF32: equal distances abound."""
    partition = make_partition((4, 16, 16), (2, 2, 2), torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(4)
    x = torch.randint(-1, 2, (1, 2, partition.tokens, 4), generator=generator).float()
    if metric == "euclidean":
        x[:, :, partition.dst[1::2]] = -x[:, :, partition.dst[::2]]  # the mean destination is zero
    if metric == "cosine":
        x = x.sign() + (x == 0)  # all of norm two
    x = x.to(device)
    distance, slot = match_tokens(x, partition, metric)
    want_distance, want_slot = match_chunked(x, partition, metric)
    assert torch.equal(slot, want_slot)
    torch.testing.assert_close(distance, want_distance)
    destinations = x[:, :, partition.dst.to(device)]
    nearest = destinations.gather(2, slot.long()[..., None].expand(*slot.shape, 4))
    earlier = (destinations[:, :, None] == nearest[:, :, :, None]).all(-1).int().argmax(-1)
    assert (earlier == slot).all()  # no equal destination comes before the one chosen
    assert slot.max() >= 1
