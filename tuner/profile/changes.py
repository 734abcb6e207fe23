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
from tuner.ceilings import FOLLOWED
from tuner.profile.sampled import SampledSources


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
    """Sampled sources of one step and their destinations, with their outputs."""

    step: int
    sampled: SampledSources
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
            samples: sources followed, per batch item and head, as far as they are no more than `FOLLOWED` in all.
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
        changes = [self._change(earlier, step, output) for earlier in seen if len(earlier.own_output) == len(output)]
        seen.append(self._look(step, output, match))
        return changes

    def _look(self, step: int, output: torch.Tensor, match: Match) -> _Seen:
        most = min(FOLLOWED, self._samples * output.shape[0] * output.shape[1])
        sampled = SampledSources.of(match, self._rates, most)
        return _Seen(step, sampled, gather_tokens(output, sampled.own), gather_tokens(output, sampled.other))

    def _change(self, earlier: _Seen, step: int, output: torch.Tensor) -> Change:
        sampled = earlier.sampled
        own = gather_tokens(output, sampled.own).float() - earlier.own_output.float()
        other = gather_tokens(output, sampled.other).float() - earlier.other_output.float()
        alone = own.square().sum((0, 1, 3)).double().cpu().numpy()  # (S,)
        against = (other - own).square_().sum((0, 1, 3)).double().cpu().numpy()
        return Change(step - earlier.step, sampled.dropped(against), float(alone.mean()) * sampled.tokens)
