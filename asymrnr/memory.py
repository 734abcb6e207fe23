"""What refreshes leave for later steps: outputs of attention modules, and what reductions get wrong."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from asymrnr.actions import Action
from asymrnr.schedule import Schedule

Place = tuple[int, str, int]  # denoiser, CFG branch, block


def storage_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes that tensors hold, each storage counted once; views hold the whole storage they look at."""
    return sum({t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}.values())


@dataclass(frozen=True)
class _Kept:
    window: int
    value: Any
    bytes: int


@dataclass
class _Stream:
    """Passes of one denoiser in one CFG branch.

    Attributes:
        shape: of its input.
        refreshed: window that every block should have refreshed last, -1 before the first.
    """

    shape: tuple[int, ...]
    refreshed: np.ndarray = field(repr=False)


class Memory:
    """What is kept of one generation, each entry for one window of one block.

    An entry of another window, input shape or CFG branch is never used. So where a cache skipped a refresh, or the
    batch changed, the next step that needs it computes in full instead and refreshes there.

    Attributes:
        windows: what the refreshes have to provide.
        storage: how tensors are kept.
    """

    def __init__(self, schedule: Schedule) -> None:
        windows = schedule.windows()
        assert windows is not None
        self.windows, self.storage = windows, schedule.storage
        self._kept: dict[Place, dict[Hashable, _Kept]] = {}
        self._streams: dict[tuple[int, str], _Stream] = {}
        self._stream, self._column = (0, ""), 0

    def enter(self, model: int, branch: str, shape: tuple[int, ...], column: int) -> list[int]:
        """Begin a forward pass, and let go of what no later one needs.

        Args:
            model: which denoiser.
            branch: CFG branch.
            shape: of the denoiser's input; another one starts afresh.
            column: of the schedule.

        Returns:
            The action of every block: the schedule's, but a refresh where the one it builds on is not part of this
            generation (fewer steps than the schedule has, a guidance branch or denoiser that begins later).
        """
        windows, key = self.windows, (model, branch)
        self._stream, self._column = key, column
        stream = self._streams.get(key)
        if stream is None or stream.shape != shape:
            self.leave()
            stream = self._streams[key] = _Stream(shape, np.full(len(windows.table), -1))
        for (*_, block), kept in self._kept.items():
            for name in [n for n, k in kept.items() if not k.window <= column <= windows.until[block, k.window]]:
                del kept[name]
        source, actions = windows.source[:, column], windows.table[:, column]
        actions = np.where((source >= 0) & (stream.refreshed != source), Action.REFRESH, actions)
        stream.refreshed = np.where(actions == Action.REFRESH, source, stream.refreshed)
        return [int(action) for action in actions]

    def leave(self, others: bool = False) -> None:
        """Let go of everything of the running pass's denoiser and CFG branch, or also of all other denoisers."""
        for (model, branch, _), kept in self._kept.items():
            if (model, branch) == self._stream or (others and model != self._stream[0]):
                kept.clear()

    def forget(self) -> None:
        """Let go of everything."""
        self._kept.clear()
        self._streams.clear()

    def window(self, block: int) -> int:
        """The window that a block refreshes or needs in the running pass."""
        return int(self.windows.source[block, self._column])

    def recall(self, block: int, name: Hashable) -> Any:
        """What was kept under a name for the window of the running pass, or None."""
        kept = self._kept.get((*self._stream, block), {}).get(name)
        return None if kept is None or kept.window != self.window(block) else kept.value

    def drop(self, block: int, name: Hashable) -> None:
        """Let go of one entry, before its successor takes memory."""
        self._kept.get((*self._stream, block), {}).pop(name, None)

    def keep(self, block: int, name: Hashable, value: Any, tensors: tuple[torch.Tensor, ...]) -> None:
        """Keep a value for the window of the running pass.

        Args:
            block: row of the rate tables.
            name: tells the block's entries apart.
            value: what to keep.
            tensors: the tensors in it, see `storage_bytes`.
        """
        kept = _Kept(self.window(block), value, storage_bytes(tensors))
        self._kept.setdefault((*self._stream, block), {})[name] = kept

    def held(self) -> int:
        """Bytes of all tensors kept."""
        return sum(kept.bytes for named in self._kept.values() for kept in named.values())
