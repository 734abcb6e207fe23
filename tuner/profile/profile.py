"""Everything one observed generation tells about a model, and its file format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from asymrnr.durable import write_durably
from asymrnr.partition import Grid
from tuner.errors import UsageError
from tuner.latency.model import LatencyModel
from tuner.profile.agreement import Agreement
from tuner.profile.noise import flow_levels
from tuner.strides import parse_stride

VERSION = "3"
SCALARS = (
    *("model", "transformer", "workload", "prompt", "seed", "schedule_seed"),
    *("grid", "heads", "head_dim", "text_tokens", "diagnostics", "agreement"),
)
# What reading damaged values ends in; numbers beyond all bounds and nesting without end among them.
DAMAGED = (
    SafetensorError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
TABLES = ("raw_similarity", "similarity", "kl", "norm_tail", "persistence", "memory_error", "broadcast_error")
CURVES = ("q_error", "v_error")
OPTIONAL = ("extrapolation_error", "residual_error", "noise_levels")
Curves = dict[tuple[str, int], np.ndarray]


@dataclass(frozen=True, eq=False)
class Profile:
    """One model on one workload, observed during one unaccelerated generation.

    Attributes:
        model: name of the model.
        workload: sizes, steps, guidance.
        prompt, seed: what was generated.
        schedule_seed: seed of the destinations; schedules made from this profile must use it.
        grid: (frames, height, width) in tokens; the largest one where sites differ.
        heads, head_dim, text_tokens: of the attention calls.
        timesteps: (steps,) the sampler's timesteps.
        noise_levels: (steps + 1,) before every step and after the last one, see `tuner.profile.noise`; None in profiles
            of earlier releases.
        raw_similarity: "H", "Q", "K", "V" to (blocks, steps): mean negative matched distance at the reference stride.
        similarity: the same, standardised to [0, 1].
        kl: feature, policy, rate and direction to (blocks, steps), for example "Q/matched/0.5/kept||all" (the paper's
            direction) or "V/random/0.3/all||kept"; NaN where not sampled.
        norm_tail: "H", "Q", "K", "V" to (blocks, steps): see `norm_tail`; NaN where not sampled.
        persistence: "Q/3" to (blocks, steps): share of sources with the same destination three steps later; NaN where
            not sampled.
        rates: (R,) ascending, the first is 0.
        q_error: (stride, cache step) to (blocks, steps, R): ||O' - O||^2 / ||O||^2 over the video tokens, with the
            matching of the start of the cache window; inf where the rate is out of reach.
        v_error: the same for keys and values, from sampled query rows.
        diagnostics: numbers that tell whether the rest can be trusted: "recomputed_rows" (see `observation_gate`),
            "v_sampling_error" (median relative standard error of `v_error`, which rests on sampled query rows) and
            "kl_zero_distances" (nearest neighbours at distance zero, raised to the resolution).
        agreement: "H", "Q", "K", "V" to the rank correlation of the raw similarities with those of a short generation
            of another prompt; empty where it was not measured.
        latency: predicts the time of every schedule on the machine, if that was measured.
        transformer: class name of the denoiser.
        memory_error: stride to (blocks, steps, gaps, R): what restoring with memory at a query rate gets wrong where
            the refresh was 1, 2, ... steps earlier, relative as `q_error` is; NaN where there is no such step, inf
            where the rate is out of reach. Empty where it was not measured.
        broadcast_error: stride, as of `memory_error`, to (blocks, steps, gaps): the same for broadcasting.
        extrapolation_error: (steps, gaps, before), see `tuner.profile.reuse.ExtrapolatedOutputs`; None where it was not
            measured.
        residual_error: (steps, gaps), see `tuner.profile.residual.ResidualErrors`; None where it was not measured.
    """

    model: str
    workload: dict[str, Any]
    prompt: str
    seed: int
    schedule_seed: int
    grid: Grid
    heads: int
    head_dim: int
    text_tokens: int
    timesteps: np.ndarray
    raw_similarity: dict[str, np.ndarray]
    similarity: dict[str, np.ndarray]
    kl: dict[str, np.ndarray]
    norm_tail: dict[str, np.ndarray]
    persistence: dict[str, np.ndarray]
    rates: np.ndarray
    q_error: Curves
    v_error: Curves
    diagnostics: dict[str, float] = field(default_factory=dict)
    agreement: dict[str, Agreement] = field(default_factory=dict)
    latency: LatencyModel | None = None
    transformer: str | None = None
    memory_error: dict[str, np.ndarray] = field(default_factory=dict)
    broadcast_error: dict[str, np.ndarray] = field(default_factory=dict)
    extrapolation_error: np.ndarray | None = None
    residual_error: np.ndarray | None = None
    noise_levels: np.ndarray | None = None

    @property
    def blocks(self) -> int:
        return next(iter(self.q_error.values())).shape[0]

    @property
    def steps(self) -> int:
        return len(self.timesteps)

    @property
    def levels(self) -> np.ndarray:
        """(steps + 1,) noise levels; those of flow matching where the profile does not say."""
        return flow_levels(self.timesteps) if self.noise_levels is None else self.noise_levels

    def save(self, path: Path | str) -> None:
        """Write the profile as safetensors with JSON metadata; the file appears only when it is complete.

        Raises:
            UsageError: the place cannot be written.
        """
        content, arrays = self.to_record()
        path, metadata = Path(path), {"version": VERSION, "profile": json.dumps(content, sort_keys=True)}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(path, save(arrays, metadata))
        except (OSError, SafetensorError) as error:
            raise UsageError(f"The profile cannot be written to {path}: {error}.") from error

    @classmethod
    def load(cls, path: Path | str) -> Profile:
        """Read a profile back.

        Raises:
            UsageError: the file is missing, damaged, of another version, or inconsistent.
        """
        path = Path(path)
        if not path.is_file():
            raise UsageError(f"There is no profile {path}.")
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("version") != VERSION:
                    raise UsageError(f"{path} is not a profile of version {VERSION}; profile the model again.")
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
            return cls.from_record(json.loads(metadata["profile"]), arrays)
        except DAMAGED as error:
            raise UsageError(f"The profile {path} is damaged ({error!s:.200}); profile the model again.") from error

    def to_record(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Plain values and arrays, from which `from_record` makes the same profile again."""
        arrays = {"timesteps": self.timesteps, "rates": self.rates}
        for name in OPTIONAL:
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name)
        for name in TABLES:
            arrays |= {f"{name}/{key}": table for key, table in getattr(self, name).items()}
        for name in CURVES:
            arrays |= {f"{name}/{stride}/{step}": curve for (stride, step), curve in getattr(self, name).items()}
        content = {name: getattr(self, name) for name in SCALARS}
        content["latency"] = None if self.latency is None else self.latency.to_dict()
        return content, {name: np.ascontiguousarray(array) for name, array in arrays.items()}

    @classmethod
    def from_record(cls, content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Profile:
        """The profile that `to_record` gave, also after JSON.

        Raises:
            KeyError, ValueError, TypeError: it is damaged.
        """
        content, arrays = dict(content), dict(arrays)
        fields: dict[str, Any] = {name: {} for name in (*TABLES, *CURVES)}
        timesteps, rates = arrays.pop("timesteps"), arrays.pop("rates")
        optional: dict[str, Any] = {name: arrays.pop(name, None) for name in OPTIONAL}
        arrays.pop("reuse_error", None)  # of earlier releases, for outputs that are used again as they were
        for full_name, array in arrays.items():
            name, key = full_name.split("/", 1)
            if name in CURVES:
                stride, step = key.split("/")
                fields[name][stride, int(step)] = array
            else:
                fields[name][key] = array
        content["grid"] = tuple(content["grid"])
        content["agreement"] = {feature: Agreement(*found) for feature, found in content["agreement"].items()}
        fields |= {name: content[name] for name in SCALARS}
        latency, blocks = content["latency"], next(iter(fields["q_error"].values())).shape[0]
        profile = cls(
            **fields,
            timesteps=timesteps,
            rates=rates,
            **optional,
            latency=None if latency is None else LatencyModel.from_dict(latency, blocks, len(timesteps)),
        )
        profile._check()
        return profile

    def _check(self) -> None:
        """Raises ValueError where arrays do not fit together or hold numbers that make no sense."""
        for name in ("steps", "frames", "height", "width"):
            if not is_count(self.workload.get(name)):
                raise ValueError(f"its workload says {name} {self.workload.get(name)!r:.40}")
        if self.workload["steps"] != self.steps or self.steps < 1 or not np.isfinite(self.timesteps).all():
            raise ValueError("its timesteps do not fit its workload")
        if len(self.grid) != 3 or not all(map(is_count, (*self.grid, self.heads, self.head_dim, self.blocks))):
            raise ValueError("its grid, blocks or heads are not positive")
        if not isinstance(self.text_tokens, int) or self.text_tokens < 0:
            raise ValueError("its text tokens are no number")
        for stride in {*self.memory_error, *(stride for stride, _ in (*self.q_error, *self.v_error))}:
            parse_stride(stride)
        if not all(is_count(step) for _, step in self.q_error):
            raise ValueError("its cache steps are not positive")
        if not self.q_error or set(self.q_error) != set(self.v_error):
            raise ValueError("error curves are missing")
        sites = (self.blocks, self.steps)
        for curves in (self.q_error, self.v_error):
            for array in curves.values():
                if array.shape != (*sites, len(self.rates)) or np.isnan(array).any() or (array < 0).any():
                    raise ValueError("an error curve has a wrong shape or values")
        if set(self.memory_error) != set(self.broadcast_error):
            raise ValueError("errors with memory or of broadcasting are missing")
        for stride, memory in self.memory_error.items():
            broadcast = self.broadcast_error[stride]
            fits = broadcast.ndim == 3 and broadcast.shape[:2] == sites
            if not fits or memory.shape != (*broadcast.shape, len(self.rates)) or (memory < 0).any():
                raise ValueError(f"an error with memory at stride {stride} has a wrong shape or values")
            if (broadcast < 0).any():
                raise ValueError(f"an error of broadcasting at stride {stride} has wrong values")
        found = self.extrapolation_error
        if found is not None and (found.ndim != 3 or len(found) != self.steps or (found < 0).any()):
            raise ValueError("the errors of extrapolated outputs have a wrong shape or values")
        again = self.residual_error
        if again is not None and (found is None or again.shape != found.shape[:2] or (again < 0).any()):
            raise ValueError("the errors of residuals that are added again have a wrong shape or values")
        for tables in (self.raw_similarity, self.similarity):
            for array in tables.values():
                if array.shape != sites or not np.isfinite(array).all():
                    raise ValueError("a similarity table has a wrong shape or values")
        levels = self.levels
        if levels.shape != (self.steps + 1,) or not ((levels >= 0) & (levels <= 1)).all():
            raise ValueError("the noise levels have a wrong shape or values")
        if self.rates[0] != 0 or (np.diff(self.rates) <= 0).any():
            raise ValueError("the rates are not ascending from 0")


def is_count(value: object) -> bool:
    """Whether it is a positive integer."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
