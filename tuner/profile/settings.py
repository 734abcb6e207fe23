"""What to measure while profiling, and how often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tuner.errors import UsageError
from tuner.strides import parse_stride

GAPS = (1, 2, 3, 5)
"""Steps over which the persistence of matchings is followed."""


@dataclass(frozen=True)
class ProfilerSettings:
    """What to measure, and how often.

    Attributes:
        strides: candidate strides, such as "2x2x2"; the first one is the reference for similarities and divergences.
        cache_steps: candidate cache steps.
        rates: candidate reduction rates; 0 is added. Without any, no errors are measured.
        seed: seed of the destinations (`Schedule.seed`).
        total_steps: denoising steps of the generation.
        v_rows: sampled query rows for the errors of reduced keys and values.
        v_every: those errors are measured every so many steps, and interpolated between.
        similarity_every: S of H and K, which no schedule here reduces, is measured every so many steps.
        kl_every, kl_samples, kl_rates, kl_neighbour: how often, on how many tokens, at which rates and with which
            nearest neighbour the divergences are estimated; the tails of the norms are measured as often.
        persistence_every: how often it is measured how matchings change over the next steps, on a share of the sources.
        memory_gaps: up to how many steps after a refresh the errors of restoring with memory and of broadcasting are
            measured, at the reference stride; 0 for not at all.
        memory_samples: sources that they are measured on, per batch item and head.
    """

    strides: Sequence[str]
    cache_steps: Sequence[int]
    rates: Sequence[float]
    total_steps: int
    seed: int = 0
    v_rows: int = 64
    v_every: int = 2
    similarity_every: int = 5
    kl_every: int = 15
    kl_samples: int = 48
    kl_rates: Sequence[float] = (0.3, 0.5, 0.7)
    kl_neighbour: int = 1
    persistence_every: int = 15
    memory_gaps: int = 0
    memory_samples: int = 256

    def __post_init__(self) -> None:
        if not self.strides or not self.cache_steps or self.total_steps < 1:
            raise UsageError("Profiling needs at least one stride, one cache step and one denoising step.")
        if min(self.cache_steps) < 1 or not all(0 <= rate < 1 for rate in self.rates):
            raise UsageError("Cache steps to profile must be positive and rates must lie in [0, 1).")
        if self.persistence_every <= max(GAPS):
            raise UsageError(f"Persistence is followed over {max(GAPS)} steps, so measure it less often than that.")
        if self.memory_gaps < 0 or self.memory_samples < 1:
            raise UsageError("Errors with memory need a gap from 0 and at least one sampled source.")
        for stride in self.strides:
            parse_stride(stride)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, from which `from_dict` makes the same settings again, also after JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ProfilerSettings:
        found: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in values.items()}
        return cls(**found)

    def for_similarity(self, total_steps: int) -> ProfilerSettings:
        """The same for a generation of which only the similarities matter, matched at every step."""
        return replace(
            self,
            strides=self.strides[:1],
            cache_steps=(1,),
            rates=(),
            total_steps=total_steps,
            similarity_every=1,
            kl_every=total_steps,
            kl_rates=(),
            memory_gaps=0,
        )
