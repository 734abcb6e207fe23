"""One self-attention layer of a denoiser, as an engine knows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from asymrnr.compile_op import register_site

if TYPE_CHECKING:
    from asymrnr.engine import Engine


@dataclass(eq=False)
class Site:
    """One self-attention layer.

    Attributes:
        engine: what reduces it.
        model: which of the pipeline's denoisers it belongs to.
        row: its row in the rate tables.
        call: how often its attention was called in this forward pass (Mochi: once per batch item).
        batch: batch size of the running processor call; 0 in compiled code.
        hidden: hidden states of the running processor call, where somebody needs them.
        symmetric: the running processor call already works on a sequence reduced as a whole (H).
        refreshed: attention was computed in full in the running processor call, for later steps.
        number: names the site in compiled code.
    """

    engine: Engine
    model: int
    row: int
    call: int = 0
    batch: int = 0
    hidden: torch.Tensor | None = None
    symmetric: bool = False
    refreshed: bool = False

    def __post_init__(self) -> None:
        self.number = register_site(self)
