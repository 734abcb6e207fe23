"""What a search may choose, read from `search_spaces/*.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from asymrnr.resources import search_spaces_folder
from tuner.errors import UsageError
from tuner.models import ModelEntry
from tuner.profile.profile import Profile
from tuner.search.error import ErrorModel
from tuner.search.trust import Trust
from tuner.strides import parse_stride

# Videos of the embedded model with one of 30 steps left out, docs/steering-30.md; the last three steps weigh about as
# much in 8 steps, docs/steering-8.md, however long each of them is.
REUSE_STEERING = (
    *(4.2, 4.0, 3.7, 4.9, 5.1, 5.5, 5.0, 5.5, 5.4, 4.6),
    *(5.0, 4.8, 4.4, 4.5, 4.6, 5.1, 4.8, 5.5, 6.5, 9.4),
)
REUSE_LAST = (6.1, 7.0, 9.5)
Rate = Annotated[float, Field(ge=0, lt=1)]
Rule = dict[float, Rate]


class WarmStart(BaseModel):
    """A threshold rule tried before anything else: {threshold: rate} per feature."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    stride: str | None = None
    cache_step: int | None = None
    Q: Rule = Field(default_factory=dict)
    V: Rule = Field(default_factory=dict)


class SearchSpace(BaseModel):
    """The candidates of one model family.

    Attributes:
        strides: such as "2x2x2"; the first one is the reference for similarities.
        cache_steps: lengths of the cache windows.
        rates: reduction rates, ascending from 0.
        tiers: thresholds are multiples of 1 / tiers.
        exponents: p of the error norm that tables are optimised for.
        trusts: how far the measured error curves are believed; tables are made for each, the first one is the common
            yardstick. The default is what was best on the embedded model (docs/baselines.md), and errors as measured.
        early_weight: weight of the first step's error; weights fall linearly to 2 - early_weight at the last step,
            because every later step builds on an early error. For this and what follows: steps weigh by their length
            besides, see `step_lengths`.
        protected_steps: up to so many first and last steps may be left alone.
        memory_gaps: up to so many steps may restore with memory, or broadcast, after a refresh.
        memory_rates_from: least query rate at which is restored with memory.
        memory_bytes: most that refreshes may keep for later steps; None is no limit.
        memory_trust: how far what sets blocks apart is believed, in logarithms, for restoring with memory and
            broadcasting; 0 takes all blocks to be alike. The default was chosen on the embedded model.
        steering: logarithms of how much a squared error of attention weighs in the final video, at equally spaced
            moments of a generation, for restoring with memory and broadcasting. Early errors steer everything after
            them, and the last ones nobody corrects. The default was measured on the embedded model.
        reuse: steps may leave out the whole denoiser, whose output is then extrapolated.
        reuse_steering: as `steering` and in its unit, of a squared error of the denoiser's output, relative to its
            square. The default was measured on the embedded model.
        reuse_last: the same of the last steps of a generation, whatever their moments.
        warm_starts: threshold rules to begin with.
        rank_correlation: Spearman's correlation of the predicted error with measured quality loss and its 95 %
            interval, as {"value": ..., "low": ..., "high": ...}, where it was studied on the model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    strides: tuple[str, ...] = Field(min_length=1)
    cache_steps: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    rates: tuple[Rate, ...] = Field(min_length=2)
    tiers: int = Field(default=10, ge=2)
    exponents: tuple[Annotated[float, Field(gt=0)], ...] = (1.0, 2.0, 4.0)
    trusts: tuple[Trust, ...] = Field(default=(Trust(blocks=0.5), Trust()), min_length=1)
    early_weight: float = Field(default=1.4, ge=1, le=2)
    protected_steps: int = Field(default=2, ge=0)
    memory_gaps: int = Field(default=6, ge=1)
    memory_rates_from: float = Field(default=0.3, gt=0, lt=1)
    memory_bytes: float | None = Field(default=None, gt=0)
    memory_trust: float = Field(default=0.25, ge=0, le=1)
    steering: tuple[float, ...] = Field(default=(3.0, 1.4, 1.0, 0.0, 2.8), min_length=1)
    reuse: bool = False
    reuse_steering: tuple[float, ...] = Field(default=REUSE_STEERING, min_length=1)
    reuse_last: tuple[float, ...] = REUSE_LAST
    warm_starts: tuple[WarmStart, ...] = ()
    rank_correlation: dict[Literal["value", "low", "high"], Annotated[float, Field(ge=-1, le=1)]] | None = None

    def step_weights(self, timesteps: np.ndarray) -> np.ndarray:
        """(steps,) weight of the errors of every step; see `early_weight` and `step_lengths`."""
        line = np.linspace(self.early_weight, 2 - self.early_weight, len(timesteps))
        return line * step_lengths(timesteps)

    def steering_weights(self, timesteps: np.ndarray) -> np.ndarray:
        """(steps,) weight of a squared error of every step; see `steering` and `step_lengths`."""
        return _over_steps(self.steering, len(timesteps)) * step_lengths(timesteps)

    def reuse_weights(self, timesteps: np.ndarray) -> np.ndarray:
        """(steps,) weight of a squared error of the output; see `reuse_steering`, `reuse_last`, `step_lengths`."""
        steps = len(timesteps)
        last = self.reuse_last[max(0, len(self.reuse_last) - steps) :]
        weights = np.concatenate([_over_steps(self.reuse_steering, steps)[: steps - len(last)], np.exp(last)])
        return weights * step_lengths(timesteps)

    def for_steps(self, steps: int) -> SearchSpace:
        """The same with no cache window longer than half of the steps, so that a matching serves at most half of them.

        Longer ones become as long; rules that name them keep them company.
        """
        longest = max(1, steps // 2)

        def shortened(start: WarmStart) -> WarmStart:
            step = start.cache_step
            return start if step is None else start.model_copy(update={"cache_step": min(step, longest)})

        return self.model_copy(
            update={
                "cache_steps": tuple(dict.fromkeys(min(step, longest) for step in self.cache_steps)),
                "warm_starts": tuple(map(shortened, self.warm_starts)),
            }
        )

    @field_validator("strides")
    @classmethod
    def _strides_are_strides(cls, strides: tuple[str, ...]) -> tuple[str, ...]:
        for stride in strides:
            try:
                parse_stride(stride)
            except UsageError as error:
                raise ValueError(str(error)) from error
        return strides

    @field_validator("rates")
    @classmethod
    def _rates_ascend(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if rates[0] != 0 or list(rates) != sorted(set(rates)):
            raise ValueError("rates must ascend from 0")
        return rates

    @model_validator(mode="after")
    def _warm_starts_fit(self) -> SearchSpace:
        for start in self.warm_starts:
            if start.stride is not None and start.stride not in self.strides:
                raise ValueError(f"warm start '{start.name}' has a stride that is not in the space")
            if start.cache_step is not None and start.cache_step not in self.cache_steps:
                raise ValueError(f"warm start '{start.name}' has a cache step that is not in the space")
            for rule in (start.Q, start.V):
                tiers = [threshold * self.tiers for threshold in rule]
                if any(abs(tier - round(tier)) > 1e-6 or not 0 <= tier <= self.tiers for tier in tiers):
                    raise ValueError(f"thresholds of warm start '{start.name}' are not multiples of 1/{self.tiers}")
                rates = [rule[threshold] for threshold in sorted(rule)]
                if len(rule) > 2 or rates != sorted(rates) or 0 in rates:
                    raise ValueError(f"warm start '{start.name}' needs one or two ascending rates per feature")
        return self


def step_lengths(timesteps: np.ndarray) -> np.ndarray:
    """(steps,) lengths of the sampler's steps, relative to their mean; the last one is as long as the one before.

    What a step gets wrong comes into the video by as much as the step is long. Samplers with a shift go through strong
    noise in small steps and through weak noise in large ones; Mochi's steps differ 65-fold. A squared error would
    go with the square, but under strong noise it matters more: of the powers tried, the first was the best compromise
    (docs/step-lengths.md).

    Args:
        timesteps: (steps,) of the sampler, in either direction; repeated ones, of samplers that look twice, count as
            the shortest step.
    """
    lengths = np.abs(np.diff(timesteps))
    if not (lengths > 0).any():
        return np.ones(len(timesteps))
    lengths = np.maximum(np.append(lengths, lengths[-1]), lengths[lengths > 0].min())
    return lengths / lengths.mean()


def _over_steps(logarithms: tuple[float, ...], steps: int) -> np.ndarray:
    """(steps,) of logarithms at equally spaced moments of a generation."""
    moments = (np.arange(len(logarithms)) + 0.5) / len(logarithms)
    return np.exp(np.interp((np.arange(steps) + 0.5) / steps, moments, logarithms))


def load_space(path: Path | str) -> SearchSpace:
    """Read a search space.

    Raises:
        UsageError: the file is missing, is no YAML, or says something impossible.
    """
    path = Path(path)
    try:
        content: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        return SearchSpace.model_validate(content)
    except OSError as error:
        raise UsageError(f"The search space {path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"The search space {path} is not valid YAML.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "content"
        raise UsageError(f"The search space {path} is wrong at {where}: {first['msg']}.") from error


def load_space_of(entry: ModelEntry) -> SearchSpace:
    """What a search may choose for a model, in as many steps as its workload has.

    Raises:
        UsageError: see `load_space`.
    """
    return load_space(search_spaces_folder() / entry.search_space).for_steps(entry.workload.steps)


def error_models(profile: Profile, space: SearchSpace) -> list[ErrorModel]:
    """What predicts errors, by every trust of the space; the first one is the common yardstick."""
    weights = space.step_weights(profile.timesteps)
    return [ErrorModel(profile, weights, trust=trust) for trust in space.trusts]
