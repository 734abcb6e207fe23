"""What restoring with memory takes beyond restoring by copying (see `asymrnr.restoration`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from asymrnr.reduction import Match, add_tokens, gather_tokens


@dataclass(frozen=True)
class ResidualLatency:
    """Seconds per call, beyond planning, gathering and restoring by copying.

    Attributes:
        rates: ascending rates of Q at which was measured.
        learn_q: learning at a refresh what reducing Q alone gets wrong, at each rate: finding the tokens that are
            dropped, subtracting, and keeping their part.
        add_q: adding it at a memory site, at each rate.
        everywhere: adding to all tokens, or subtracting from them, as it is done where V is reduced.
    """

    rates: tuple[float, ...]
    learn_q: tuple[float, ...]
    add_q: tuple[float, ...]
    everywhere: float

    @property
    def times(self) -> tuple[float, ...]:
        """All that was measured."""
        return *self.learn_q, *self.add_q, self.everywhere

    def learning_seconds(self, rate_q: np.ndarray, rate_v: np.ndarray) -> np.ndarray:
        """Seconds of a refresh for memory sites with these rates, which have one shape; 0 where both are 0."""
        return self._seconds(self.learn_q, rate_q, rate_v)

    def adding_seconds(self, rate_q: np.ndarray, rate_v: np.ndarray) -> np.ndarray:
        """Seconds of a memory site with these rates, which have one shape; 0 where both are 0."""
        return self._seconds(self.add_q, rate_q, rate_v)

    def _seconds(self, of_q: tuple[float, ...], rate_q: np.ndarray, rate_v: np.ndarray) -> np.ndarray:
        alone = np.where(rate_q > 0, np.interp(rate_q, self.rates, of_q), 0.0)
        return np.where(rate_v > 0, self.everywhere, alone)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ResidualLatency:
        """Read back what `dataclasses.asdict` gave, also after JSON turned tuples into lists.

        Raises:
            KeyError, TypeError, ValueError: something is missing or of a wrong shape.
        """
        rates, learn_q, add_q = (tuple(values[name]) for name in ("rates", "learn_q", "add_q"))
        found = cls(rates, learn_q, add_q, float(values["everywhere"]))
        found.learning_seconds(np.array(0.5), np.array(0.0))
        found.adding_seconds(np.array(0.5), np.array(0.0))
        return found

    @classmethod
    def of(cls, rates: Sequence[float], seconds: Mapping[Any, float]) -> ResidualLatency:
        """From what every one of the `jobs` took, by its name."""
        learn_q, add_q = (tuple(seconds[name, rate] for rate in rates) for name in ("learn", "add"))
        return cls(tuple(rates), learn_q, add_q, seconds["everywhere"])


def jobs(
    match: Match, rates: Sequence[float], full: torch.Tensor, copied: torch.Tensor
) -> dict[Any, Callable[[], object]]:
    """What is timed, by name.

    Args:
        match: of the video tokens, which are the first ones.
        rates: of Q.
        full, copied: (batch, heads, joint tokens, head dim) outputs in full, and restored by copying.
    """
    scratch = copied.clone()
    found: dict[Any, Callable[[], object]] = {"everywhere": lambda: copied + full}

    def add_jobs(rate: float) -> None:
        plan = match.plan(rate).joint(0, full.shape[2] - match.partition.tokens)
        wrong = plan.dropped()
        rest = gather_tokens(full, wrong)
        found["learn", rate] = lambda: gather_tokens(full - copied, plan.dropped())
        found["add", rate] = lambda: add_tokens(scratch, wrong, rest)

    for rate in rates:
        add_jobs(rate)
    return found
