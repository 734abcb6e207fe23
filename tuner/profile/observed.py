"""What a profiler has seen so far, in a form that can be kept."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tuner.profile.means import SiteMeans

Arrays = dict[str, np.ndarray]


@dataclass
class Observed:
    """Everything that a profile is made from, but for what is looked back on while observing.

    Attributes:
        means: by what is averaged, such as ("S", "Q").
        timesteps: the sampler's, by denoising step.
        zeros: distances of zero that the divergences met, by denoising step.
        blocks: of the denoiser.
        facts: of the largest grid seen: grid, heads, head_dim and text_tokens.
    """

    means: dict[tuple[Any, ...], SiteMeans] = field(default_factory=lambda: defaultdict(SiteMeans))
    timesteps: dict[int, float] = field(default_factory=dict)
    zeros: Counter[int] = field(default_factory=Counter)
    blocks: int = 0
    facts: dict[str, Any] = field(default_factory=dict)

    def tables(self, kind: str) -> dict[Any, np.ndarray]:
        """(blocks, steps, ...) of every mean of a kind, by the rest of its name."""
        shape = (self.blocks, len(self.timesteps))
        return {key[1:]: means.table(shape) for key, means in self.means.items() if key[0] == kind}

    def follow(self, earlier: Observed, until: int) -> None:
        """Take the steps before `until` from what was observed earlier in the same generation."""
        for key, means in earlier.means.items():
            self.means[key].follow(means, until)
        for step in range(until):
            self.timesteps[step] = earlier.timesteps[step]
            self.zeros[step] = earlier.zeros[step]
        self.blocks, self.facts = max(self.blocks, earlier.blocks), self.facts or earlier.facts

    def to_arrays(self) -> tuple[dict[str, Any], Arrays]:
        """Plain values, and arrays by name."""
        values = {
            "timesteps": sorted(self.timesteps.items()),
            "zeros": sorted(self.zeros.items()),
            "blocks": self.blocks,
            "facts": self.facts,
        }
        named = {json.dumps(key): means.to_arrays() for key, means in self.means.items()}
        return values, {f"{part} {key}": array for key, parts in named.items() for part, array in parts.items()}

    @classmethod
    def from_arrays(cls, values: dict[str, Any], arrays: Arrays) -> Observed:
        """Of what `to_arrays` gave, through JSON or not.

        Raises:
            ValueError, KeyError, TypeError: it is damaged.
        """
        facts = dict(values["facts"])
        found = cls(timesteps=dict(values["timesteps"]), zeros=Counter(dict(values["zeros"])), blocks=values["blocks"])
        found.facts = {**facts, "grid": tuple(facts["grid"])} if facts else {}
        parts: dict[str, Arrays] = defaultdict(dict)
        for name, array in arrays.items():
            part, _, key = name.partition(" ")
            parts[key][part] = array
        found.means.update({tuple(json.loads(key)): SiteMeans.from_arrays(**each) for key, each in parts.items()})
        return found
