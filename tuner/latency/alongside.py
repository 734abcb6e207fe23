"""What the steps of a generation take with a cache of diffusers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from asymrnr.partner import Partner
from asymrnr.schedule import Schedule


@dataclass(frozen=True)
class Alongside:
    """A cache that is installed along with every schedule.

    Attributes:
        partner: the cache.
        shares: (steps,) what every step takes with the cache alone, as a share of a plain step; 1 where it computes
            everything.
    """

    partner: Partner
    shares: tuple[float, ...]

    @classmethod
    def of(cls, partner: Partner, plain: np.ndarray, tuned: np.ndarray, skipped: np.ndarray) -> Alongside:
        """From one pair whose tuned side had nothing but the cache.

        Args:
            partner: the cache.
            plain, tuned: (steps,) seconds.
            skipped: (steps,) share of the attention sites that the cache left out; steps with the same share are taken
                to take the same time.
        """
        shares = np.ones(len(plain))
        for share in np.unique(skipped[skipped > 0]):
            alike = skipped == share
            shares[alike] = min(1.0 - 1e-6, float(np.median((tuned / plain)[alike])))
        return cls(partner, tuple(shares.tolist()))

    @property
    def computed(self) -> np.ndarray:
        """(steps,) bool, the cache computes everything at the step."""
        return np.array(self.shares) == 1.0

    @property
    def share(self) -> float:
        """What the generation takes with the cache alone, as a share of a plain one."""
        return float(np.mean(self.shares))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any] | None) -> Alongside | None:
        """Read back what `dataclasses.asdict` gave, also after JSON."""
        if values is None:
            return None
        return cls(Partner(values["partner"]["cache"], values["partner"]["settings"]), tuple(values["shares"]))


def alone(partner: Partner, blocks: int, steps: int) -> Schedule:
    """A schedule that does nothing but bring the cache along."""
    return Schedule({"Q": np.zeros((blocks, steps))}, partner=partner)
