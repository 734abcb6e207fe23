"""How outputs of attention change over the steps: what restoring with memory, and broadcasting, would get wrong.

Restored with memory, a dropped token takes what its destination gives, and the difference of the two at the refresh
(`asymrnr.restoration`). So it is wrong by how differently the two have changed since. Broadcast, every token is wrong
by how it has changed. Both follow from full outputs alone, of the step and of the refresh.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import torch

from asymrnr.reduction import Match, gather_tokens
from tuner.profile.error_curves import kept_sources


@dataclass(frozen=True)
class Change:
    """What a site would get wrong with the memory of an earlier step, squared and summed over all that it computes.

    Attributes:
        gap: steps since that earlier one.
        memory: (R,) restored with memory, at every query rate; inf where the rate is out of reach.
        broadcast: broadcast.
    """

    gap: int
    memory: np.ndarray
    broadcast: float


@dataclass(frozen=True)
class _Seen:
    """Sampled sources of one step and their destinations, least similar first, with their outputs."""

    step: int
    tokens: int  # of the video
    sources: int
    ranks: np.ndarray  # (S,) places in the order of the sources
    kept: np.ndarray  # (R,) sources kept at every rate, -1 where it is out of reach
    own: torch.Tensor  # (batch, heads, S) tokens
    other: torch.Tensor  # (batch, heads, S) the tokens they are matched with
    own_output: torch.Tensor  # (batch, heads, S, head dim)
    other_output: torch.Tensor


class OutputChanges:
    """Follows sampled tokens of every site over a few steps; nothing older is kept.

    Sampled sources stand for all tokens: broadcasting is wrong at destinations as well, which are drawn by lot.
    """

    def __init__(self, rates: np.ndarray, gaps: int, samples: int) -> None:
        """
        Args:
            rates: (R,) query rates.
            gaps: largest number of steps between refresh and use.
            samples: sources followed, per batch item and head, evenly spaced from the least to the most similar.
        """
        self._rates, self._gaps, self._samples = rates, gaps, samples
        self._seen: dict[Hashable, deque[_Seen]] = {}

    def add(self, place: Hashable, step: int, output: torch.Tensor, match: Match) -> list[Change]:
        """Compare a step with those before it, and remember it.

        Args:
            place: what tells attention calls of one step apart.
            step: denoising step.
            output: (batch, heads, video tokens, head dim), the unreduced output.
            match: of this step's queries.

        Returns:
            One for every gap that there are earlier steps for.
        """
        seen = self._seen.setdefault(place, deque(maxlen=self._gaps))
        while seen and step - seen[0].step > self._gaps:
            seen.popleft()
        changes = [self._change(earlier, step, output) for earlier in seen if earlier.own.shape[0] == output.shape[0]]
        seen.append(self._look(step, output, match))
        return changes

    def _look(self, step: int, output: torch.Tensor, match: Match) -> _Seen:
        n_src = match.order.shape[-1]
        count = min(self._samples, n_src)
        ranks = ((torch.arange(count) + 0.5) * (n_src / count)).long()
        picked = match.order.long()[..., ranks.to(match.order.device)]
        own = match.partition.src.to(output.device)[picked]
        other = match.partition.dst.to(output.device)[match.slot.long().gather(-1, picked)]
        outputs = gather_tokens(output, own), gather_tokens(output, other)
        kept = kept_sources(match, self._rates)
        return _Seen(step, match.partition.tokens, n_src, ranks.numpy(), kept, own, other, *outputs)

    def _change(self, earlier: _Seen, step: int, output: torch.Tensor) -> Change:
        own = gather_tokens(output, earlier.own).float() - earlier.own_output.float()
        other = gather_tokens(output, earlier.other).float() - earlier.other_output.float()
        alone = own.square().sum((0, 1, 3)).double().cpu().numpy()  # (S,)
        against = (other - own).square_().sum((0, 1, 3)).double().cpu().numpy()
        memory = np.full(len(self._rates), np.inf)
        for index in np.flatnonzero(earlier.kept >= 0):
            dropped = against[earlier.ranks >= earlier.kept[index]]
            gone = earlier.sources - earlier.kept[index]
            memory[index] = gone * (dropped.mean() if len(dropped) else against[-1])
        return Change(step - earlier.step, memory, float(alone.mean()) * earlier.tokens)
