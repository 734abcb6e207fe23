"""Caches that are installed along with a schedule, diffusers' and one of our own, see docs/partners.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from asymrnr.errors import ScheduleError

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class _Cache:
    """One of diffusers' caches.

    Attributes:
        config: name of its configuration class.
        knob: the setting that a number after the cache's name stands for.
        settings: what is not said is set to this.
        callback: the setting that tells it the sampler's timestep, where it needs that.
    """

    config: str
    knob: str
    settings: Settings
    callback: str | None = None


_CACHES = {
    "first-block-cache": _Cache("FirstBlockCacheConfig", "threshold", {"threshold": 0.05}),
    "pyramid-attention-broadcast": _Cache(
        "PyramidAttentionBroadcastConfig",
        "spatial_attention_block_skip_range",
        {"spatial_attention_block_skip_range": 2, "spatial_attention_timestep_skip_range": [100, 850]},
        "current_timestep_callback",
    ),
    "faster-cache": _Cache(
        "FasterCacheConfig",
        "spatial_attention_block_skip_range",
        {
            "spatial_attention_block_skip_range": 2,
            "spatial_attention_timestep_skip_range": [-1, 901],
            "tensor_format": "BFCHW",
            "is_guidance_distilled": True,
        },
        "current_timestep_callback",
    ),
    # As it comes it looks for modules whose names end in "attn"; CogVideoX, Mochi and Wan call theirs "attn1", so that
    # it does nothing there, and says nothing.
    "taylorseer": _Cache(
        "TaylorSeerCacheConfig",
        "cache_interval",
        {
            "cache_interval": 3,
            "disable_cache_before_step": 5,
            "use_lite_mode": True,
            "taylor_factors_dtype": "float32",
        },
    ),
    "mag-cache": _Cache("MagCacheConfig", "threshold", {"threshold": 0.06}),
}
PLANNED = "extrapolation"  # of what the denoiser gave, see `asymrnr.extrapolation`


@dataclass(frozen=True)
class Partner:
    """A cache with its settings.

    Attributes:
        cache: its name, see `Partner.names`, or "extrapolation" for the one that leaves out the steps it is told.
        settings: arguments of diffusers' configuration class as plain JSON values; tuples are lists, data types names.
            What tells a cache the timestep is filled in when it is installed. Of an extrapolation `left_out`, the
            numbers of the steps, of `num_inference_steps`, and `residual`, those of them at which what the blocks added
            is added again instead; it may be missing.
    """

    cache: str
    settings: Settings = field(default_factory=dict)

    def __post_init__(self) -> None:
        """
        Raises:
            ScheduleError: there is no such cache, or a setting is no plain value.
        """
        if self.cache not in (*_CACHES, PLANNED):
            raise ScheduleError(f"There is no cache '{self.cache}'; choose one of {', '.join(_CACHES)}.")
        try:
            plain = json.loads(json.dumps(dict(self.settings), allow_nan=False))
        except (TypeError, ValueError):
            raise ScheduleError(f"The settings of {self.cache} must be numbers, texts and lists of them.") from None
        object.__setattr__(self, "settings", plain)
        if self.is_planned:
            steps, left_out, residual = (plain.get(name) for name in ("num_inference_steps", "left_out", "residual"))
            if plain.keys() - {"residual"} != {"num_inference_steps", "left_out"} or not (
                isinstance(steps, int)
                and steps > 0
                and isinstance(left_out, list)
                and all(isinstance(step, int) and 0 < step < steps for step in left_out)
            ):
                raise ScheduleError(
                    "An extrapolation is told num_inference_steps and left_out, the numbers of the steps to leave out; "
                    "the first step cannot be one of them, because there is nothing to go on from yet."
                )
            if "residual" in plain and not (
                isinstance(residual, list) and residual and all(step in left_out for step in residual)
            ):
                raise ScheduleError("Residual steps of an extrapolation are some of those that it leaves out.")

    @staticmethod
    def names() -> tuple[str, ...]:
        """The caches of diffusers there are."""
        return tuple(_CACHES)

    @classmethod
    def parse(cls, text: str) -> Partner:
        """A cache by name, with a number for what it is usually set by: "first-block-cache:0.1".

        Raises:
            ScheduleError: there is no such cache, or what follows is no number.
        """
        name, colon, value = text.partition(":")
        partner = cls(name)
        known = _CACHES[name]
        settings = dict(known.settings)
        if colon:
            try:
                settings[known.knob] = type(settings[known.knob])(value)
            except ValueError:
                kind = "a whole number" if isinstance(settings[known.knob], int) else "a number"
                raise ScheduleError(f"'{value}' is no {known.knob} of {name}; give {kind}.") from None
        return cls(partner.cache, settings)

    @classmethod
    def planned(
        cls, left_out: Sequence[bool] | np.ndarray, residual: Sequence[bool] | np.ndarray | None = None
    ) -> Partner:
        """One that leaves out the steps given, and no others.

        Args:
            left_out: (steps,) of a generation; the first one has to be computed.
            residual: (steps,) at which of them what the blocks added is added again, instead of extrapolating what the
                denoiser gave; None for none.

        Raises:
            ScheduleError: the first step is left out, or a residual step is not.
        """
        settings: dict[str, Any] = {
            "num_inference_steps": len(left_out),
            "left_out": np.flatnonzero(np.asarray(left_out, dtype=bool)).tolist(),
        }
        if residual is not None and np.any(residual):
            settings["residual"] = np.flatnonzero(np.asarray(residual, dtype=bool)).tolist()
        return cls(PLANNED, settings)

    @property
    def is_planned(self) -> bool:
        """Whether it is told which steps to leave out."""
        return self.cache == PLANNED

    @property
    def needs_calibration(self) -> bool:
        """Whether it has to be told first how much residuals change in the model (MagCache)."""
        return self.cache == "mag-cache" and not self.settings.keys() & {"mag_ratios", "calibrate"}

    def calibrated(self, ratios: Sequence[float]) -> Partner:
        """The same, told how much residuals change at every step of a generation."""
        told = {"mag_ratios": list(ratios), "num_inference_steps": len(ratios)}
        return Partner(self.cache, {**self.settings, **told})

    def left_out(self, steps: int) -> np.ndarray:
        """(steps,) bool, steps of a generation in which it leaves all blocks out, as far as that is known beforehand.

        A planned one is told, and MagCache knows: its rule is followed here.
        """
        found = self._told("left_out", steps)
        if self.cache != "mag-cache" or "mag_ratios" not in self.settings:
            return found
        config = self.config(lambda: 0)
        first = int(config.retention_ratio * config.num_inference_steps + 0.5)
        ratios = np.asarray(config.mag_ratios, dtype=float)
        ratio, error, length = 1.0, 0.0, 0
        for step in range(first, min(steps, config.num_inference_steps)):
            ratio *= ratios[step]
            length, error = length + 1, error + abs(1 - ratio)
            found[step] = step > 0 and error <= config.threshold and length <= config.max_skip_steps
            if not found[step]:
                ratio, error, length = 1.0, 0.0, 0
        return found

    def residual(self, steps: int) -> np.ndarray:
        """(steps,) bool, those of `left_out` at which a planned one adds again what the blocks added."""
        return self._told("residual", steps)

    def _told(self, name: str, steps: int) -> np.ndarray:
        """(steps,) bool, steps that a setting of a planned one names."""
        found = np.zeros(steps, dtype=bool)
        if self.is_planned:
            found[[step for step in self.settings.get(name, ()) if step < steps]] = True
        return found

    def config(self, timestep: Callable[[], float]) -> Any:
        """The configuration that diffusers' `enable_cache` takes.

        Args:
            timestep: tells the sampler's timestep of the running call.

        Raises:
            ScheduleError: a setting is unknown or of no use.
        """
        import diffusers
        import torch

        known = _CACHES[self.cache]
        settings = {name: tuple(v) if isinstance(v, list) else v for name, v in self.settings.items()}
        if isinstance(dtype := settings.get("taylor_factors_dtype"), str):
            settings["taylor_factors_dtype"] = getattr(torch, dtype)
        if isinstance(ratios := settings.get("mag_ratios"), tuple):
            settings["mag_ratios"] = list(ratios)
        if known.callback is not None:
            settings[known.callback] = timestep
        if self.needs_calibration:
            raise ScheduleError("MagCache has to be told how much residuals change in the model; calibrate it first.")
        try:
            return getattr(diffusers, known.config)(**settings)
        except (TypeError, ValueError, AttributeError) as error:
            reason = str(error).strip().splitlines()[0].rstrip(".")
            raise ScheduleError(f"{self.cache} does not take its settings: {reason}.") from None

    def __str__(self) -> str:
        left_out = self.left_out(int(self.settings.get("num_inference_steps", 0)))
        if left_out.any() or self.is_planned:
            return f"{self.cache}, {int(left_out.sum())} of {len(left_out)} steps left out"
        known = _CACHES[self.cache]
        value = self.settings.get(known.knob, known.settings.get(known.knob))
        return f"{self.cache}:{value}"
