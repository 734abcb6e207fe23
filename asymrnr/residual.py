"""What all blocks of a denoiser add to the video tokens, taken at one step and added again at another.

    h'(t) = h(t) + (H(t1) - h(t1))

with h what the first block is given, H what the last one gave, and t1 the last step at which the blocks were computed,
as in TeaCache, FirstBlockCache and MagCache. What comes before the blocks and behind them is computed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from asymrnr.adapters import find_adapter
from asymrnr.errors import InterceptionError
from asymrnr.install import Undo, replace_forward, self_attentions


class BlockResidual:
    """Of one denoiser; `install` first.

    Attributes:
        found: (batch, tokens, width) what the blocks added in the last forward pass that computed them.
    """

    def __init__(self) -> None:
        self.found: torch.Tensor | None = None
        self._added: torch.Tensor | None = None
        self._first: torch.Tensor | None = None
        self._pairs: dict[nn.Module, bool] = {}  # blocks that give the text tokens along

    def install(self, model: nn.Module) -> list[Undo]:
        """Stand in for the blocks.

        Args:
            model: the denoiser, not compiled.

        Returns:
            What undoes it.

        Raises:
            InterceptionError: what its blocks do is not only to add to the video tokens.
        """
        adapter = find_adapter(model)
        if not adapter.residual:
            raise InterceptionError(
                f"What the blocks of {type(model).__name__} add cannot be added again without them; plan its steps "
                "without residuals."
            )
        sites = {id(site) for site in self_attentions(model, adapter)}
        blocks = [module for module in model.modules() if any(id(child) in sites for child in module.children())]
        undo: list[Undo] = [self.forget]
        for place, block in enumerate(blocks):
            undo.append(replace_forward(block, self._standing_in(block, place == 0, place == len(blocks) - 1)))
        return undo

    def forget(self) -> None:
        """Let go of everything."""
        self.found = self._added = self._first = None

    def again(self, added: torch.Tensor, compute: Callable[[], Any]) -> Any:
        """What a forward pass gives with something added in place of the blocks, which are not computed.

        Args:
            added: that an earlier pass of the same shape `found`.
            compute: the forward pass.
        """
        self._added = added
        try:
            return compute()
        finally:
            self._added = None

    def _standing_in(
        self, block: nn.Module, first: bool, last: bool
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def make(inner: Callable[..., Any]) -> Callable[..., Any]:
            names = list(inspect.signature(inner).parameters)

            def forward(*args: Any, **kwargs: Any) -> Any:
                given = {**dict(zip(names, args, strict=False)), **kwargs}
                tokens = given["hidden_states"]
                if self._added is not None:
                    tokens = tokens + self._added if first else tokens
                    return (tokens, given["encoder_hidden_states"]) if self._pairs[block] else tokens
                if first:
                    self._first = tokens
                output = inner(*args, **kwargs)
                self._pairs[block] = isinstance(output, tuple)
                if last:
                    assert self._first is not None
                    self.found = (output[0] if self._pairs[block] else output) - self._first
                    self._first = None
                return output

            return forward

        return make
