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
        length_power: squared errors of attention weigh by this power of the step's length. What a step gets wrong comes
            into the video by as much as the step is long, squared by the square; but under strong noise, where most
            samplers take short steps, what attention gets wrong matters more to what is predicted. Of the powers tried
            the first was the best compromise (docs/leave-one-out.md).
        steering: logarithms of how many times as much such an error weighs besides, at equally spaced moments of a
            generation, in schedules that take early errors to be worth more, because they steer everything after them.
            On some models they are (docs/leave-one-out.md), so that such schedules are tried beside the others.
        protected_steps: up to so many first and last steps may be left alone.
        memory_gaps: up to so many steps may restore with memory, or broadcast, after a refresh.
        memory_rates_from: least query rate at which is restored with memory.
        memory_bytes: most that refreshes may keep for later steps; None is no limit.
        memory_trust: how far what sets blocks apart is believed, in logarithms, for restoring with memory and
            broadcasting; 0 takes all blocks to be alike. The default was chosen on the embedded model.
        reuse: steps may leave out the whole denoiser, whose output is then extrapolated.
        reuse_weight: logarithm of how many times as much a squared error of the denoiser's output, relative to its
            square, weighs as one of attention. The default was measured on the embedded model.
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
    length_power: float = Field(default=1.0, ge=0, le=4)
    steering: tuple[float, ...] = Field(default=(3.0, 1.4, 1.0, 0.0, 0.0), min_length=1)
    protected_steps: int = Field(default=2, ge=0)
    memory_gaps: int = Field(default=6, ge=1)
    memory_rates_from: float = Field(default=0.3, gt=0, lt=1)
    memory_bytes: float | None = Field(default=None, gt=0)
    memory_trust: float = Field(default=0.25, ge=0, le=1)
    reuse: bool = False
    reuse_weight: float = 4.0
    warm_starts: tuple[WarmStart, ...] = ()
    rank_correlation: dict[Literal["value", "low", "high"], Annotated[float, Field(ge=-1, le=1)]] | None = None

    def step_weights(self, noise_levels: np.ndarray) -> np.ndarray:
        """(steps,) weight of a squared error of attention at every step; see `length_power` and `step_lengths`."""
        weights: np.ndarray = step_lengths(noise_levels) ** self.length_power
        return weights

    def steering_weights(self, noise_levels: np.ndarray) -> np.ndarray:
        """(steps,) the same where early errors are taken to be worth more; see `steering`."""
        weights = self.step_weights(noise_levels)
        moments = (np.arange(len(self.steering)) + 0.5) / len(self.steering)
        steps = (np.arange(len(weights)) + 0.5) / len(weights)
        return weights * np.exp(np.interp(steps, moments, self.steering))

    def reuse_weights(self, noise_levels: np.ndarray) -> np.ndarray:
        """(steps,) weight of a squared error of the denoiser's output, relative to its square; see `reuse_weight`.

        What the output gets wrong comes into the video by as much as the step is long, and squared by the square.
        """
        weights: np.ndarray = np.exp(self.reuse_weight) * step_lengths(noise_levels) ** 2
        return weights

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


def step_lengths(noise_levels: np.ndarray) -> np.ndarray:
    """(steps,) how much of the way from noise to clean every step goes, relative to their mean.

    Args:
        noise_levels: (steps + 1,), see `tuner.profile.noise`. Samplers that look twice at a level go no way in
            between; such steps count as the shortest one.
    """
    lengths = np.abs(np.diff(noise_levels))
    if not (lengths > 0).any():
        return np.ones(len(lengths))
    lengths = np.maximum(lengths, lengths[lengths > 0].min())
    return lengths / lengths.mean()


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
    weights = space.step_weights(profile.levels)
    return [ErrorModel(profile, weights, trust=trust) for trust in space.trusts]
