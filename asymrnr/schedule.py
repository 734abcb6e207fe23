"""Schedules: at which rate each feature is reduced at every (block, step) site (paper section 3.4, equation 5)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from asymrnr.actions import Action, Windows, check_actions
from asymrnr.errors import ScheduleError
from asymrnr.notebook import html_table
from asymrnr.partner import Partner
from asymrnr.storage import Storage

Feature = Literal["H", "Q", "V"]
Form = Literal["threshold", "tier", "table"]
Metric = Literal["euclidean", "cosine", "dot", "random"]
Reduction = Literal["discard", "mean"]
Coverage = Literal["full", "paper"]
Thresholds = Mapping[str, Mapping[float, float]]

FEATURES: tuple[str, ...] = get_args(Feature)


def _choice(name: str, value: str, options: Any) -> None:
    if value not in get_args(options):
        raise ScheduleError(f"Schedule {name} is '{value}'; choose one of {', '.join(get_args(options))}.")


@dataclass(frozen=True, eq=False, repr=False)
class Schedule:
    """A resolved reduction schedule.

    Attributes:
        rates: per feature ("H", "Q", "V"; absent means never reduced) the share of tokens to drop, float64 of shape
            (blocks, steps), each in [0, 1).
        stride: (t, h, w) chunk of the token grid that holds one destination token.
        cache_step: matches are reused within windows of this many denoising steps (paper section 3.5).
        timesteps: the sampler's timestep of every step; when given, other step counts look up the nearest one.
        metric: similarity used for matching.
        match_radius: sources are matched only with destinations at most this many chunks away along each axis, which
            makes the matching's cost linear in the tokens (beyond the paper); None: with all of them.
        reduction: what happens to dropped keys and values: "discard", or "mean" into their destination.
        coverage: "full" gives every token a chunk (ragged last ones); "paper" leaves remainders without destination.
        seed: seed of the random destinations.
        form: how the rates came about; "threshold" is the paper's rule.
        thresholds: the rule {feature: {threshold: rate}} when the form is "threshold" or "tier".
        actions: what each site does at each step beyond copying (beyond the paper), int8 of shape (blocks, steps), see
            `Action`; None: nothing.
        partner: a cache of diffusers that is installed along with the schedule (beyond the paper).
        storage: how refreshes keep what later steps need: in the model's dtype ("model"), or in 8 bits ("int8").
    """

    rates: Mapping[str, np.ndarray]
    stride: tuple[int, int, int] = (2, 2, 2)
    cache_step: int = 1
    timesteps: tuple[float, ...] | None = None
    metric: Metric = "euclidean"
    match_radius: int | None = None
    reduction: Reduction = "discard"
    coverage: Coverage = "full"
    seed: int = 0
    form: Form = "table"
    thresholds: Thresholds = field(default_factory=dict)
    actions: np.ndarray | None = None
    partner: Partner | None = None
    storage: Storage = "model"

    # From and to plain values, files and the hub: `asymrnr.schedule_io`.
    uniform: ClassVar[Callable[..., Any]]
    from_dict: ClassVar[Callable[..., Schedule]]
    from_pretrained: ClassVar[Callable[..., Schedule]]
    to_dict: ClassVar[Callable[..., dict[str, Any]]]
    artifact: ClassVar[Callable[..., Any]]
    save: ClassVar[Callable[..., Any]]
    push_to_hub: ClassVar[Callable[..., Any]]

    def __post_init__(self) -> None:
        _choice("metric", self.metric, Metric)
        _choice("reduction", self.reduction, Reduction)
        _choice("coverage", self.coverage, Coverage)
        _choice("form", self.form, Form)
        _choice("storage", self.storage, Storage)
        if len(self.stride) != 3 or any(not isinstance(s, int) or s < 1 for s in self.stride):
            raise ScheduleError(f"Schedule stride is {self.stride}; give three positive integers (t, h, w).")
        if not isinstance(self.cache_step, int) or self.cache_step < 1:
            raise ScheduleError(f"Schedule cache_step is {self.cache_step}; give a positive integer.")
        if self.match_radius is not None:
            if not isinstance(self.match_radius, int) or self.match_radius < 0:
                raise ScheduleError(f"Schedule match_radius is {self.match_radius}; give an integer from 0, or None.")
            if self.metric == "random":
                raise ScheduleError("Schedule metric 'random' compares nothing; leave match_radius out.")
        if not self.rates:
            raise ScheduleError("The schedule names no feature; give rates for at least one of H, Q, V.")
        tables: dict[str, np.ndarray] = {}
        for feature, values in self.rates.items():
            if feature not in FEATURES:
                raise ScheduleError(f"Schedule feature is '{feature}'; choose from {', '.join(FEATURES)}.")
            table = np.array(values, dtype=np.float64)
            if table.ndim != 2 or 0 in table.shape:
                raise ScheduleError(f"Rates of {feature} have shape {table.shape}; give a (blocks, steps) table.")
            if not np.all((table >= 0) & (table < 1)):  # also refuses NaN
                raise ScheduleError(f"Rates of {feature} must lie in [0, 1); the table holds others.")
            table.setflags(write=False)
            tables[feature] = table
        shapes = {table.shape for table in tables.values()}
        if len(shapes) != 1:
            raise ScheduleError(f"Rate tables differ in shape ({sorted(shapes)}); all must be (blocks, steps).")
        object.__setattr__(self, "rates", tables)
        object.__setattr__(self, "actions", check_actions(self.actions, tables))
        if self.timesteps is not None and len(self.timesteps) != self.steps:
            raise ScheduleError(f"The schedule has {len(self.timesteps)} timesteps for {self.steps} steps.")

    @classmethod
    def from_thresholds(cls, thresholds: Thresholds, similarity: Mapping[str, np.ndarray], **settings: Any) -> Schedule:
        """Resolve the paper's rule: the highest rate whose threshold is at most S(A, t, b) (equation 5).

        Args:
            thresholds: {feature: {threshold: rate}}, thresholds on the standardised similarity in [0, 1].
            similarity: standardised similarity per feature, (blocks, steps).
            settings: the other attributes of the schedule.

        Raises:
            ScheduleError: a feature has no similarity table, or a value is out of range.
        """
        rates: dict[str, np.ndarray] = {}
        for feature, rule in thresholds.items():
            if feature not in similarity:
                raise ScheduleError(f"No similarity table for feature {feature}; profile the model first.")
            table = np.asarray(similarity[feature], dtype=np.float64)
            resolved = np.zeros_like(table)
            for threshold, rate in rule.items():
                reached = table >= threshold - 1e-9
                resolved = np.where(reached, np.maximum(resolved, rate), resolved)
            rates[feature] = resolved
        return cls(rates=rates, thresholds=thresholds, **{"form": "threshold", **settings})

    def __repr__(self) -> str:
        """What it does, in a line."""
        size, *facts = (f"{name} {value}".strip() for name, value in self.facts())
        return f"<Schedule: {', '.join([size, *facts])}>"

    def _repr_html_(self) -> str:
        return html_table("Schedule", self.facts())

    def facts(self) -> list[tuple[str, str]]:
        """What it does, for people: names and values."""
        found = [("", f"{self.blocks} blocks x {self.steps} steps"), ("stride", "x".join(map(str, self.stride)))]
        for feature, rates in self.rates.items():
            if rates.any():
                share, rate = (rates > 0).mean(), rates[rates > 0].mean()
                found.append((feature, f"at {share:.0%} of the sites, {rate:.2f} of it"))
        if self.actions is not None:
            for action in (Action.MEMORY, Action.BROADCAST):
                if (share := float((self.actions == action).mean())) > 0:
                    found.append((action.name.lower(), f"at {share:.0%}"))
            if self.storage != "model":
                found.append(("kept in", self.storage))
        if self.partner is not None:
            found.append(("", str(self.partner)))
        return [*found, ("attention", f"{self.attention_cost():.2f}")]

    @property
    def blocks(self) -> int:
        return next(iter(self.rates.values())).shape[0]

    @property
    def steps(self) -> int:
        return next(iter(self.rates.values())).shape[1]

    def column(self, step: int, timestep: float) -> int:
        """Column of the rate tables for a denoising step: nearest profiled timestep, or else the step index."""
        if self.timesteps is None:
            return min(step, self.steps - 1)
        return int(np.argmin(np.abs(np.asarray(self.timesteps) - timestep)))

    def effective_rates(self) -> dict[str, np.ndarray]:
        """The rate tables as they are applied: H only where neither Q nor V is reduced (paper appendix D)."""
        others = [self.rates[feature] > 0 for feature in ("Q", "V") if feature in self.rates]
        taken = np.logical_or.reduce(others) if others else False
        return {f: np.where(taken, 0.0, table) if f == "H" else table for f, table in self.rates.items()}

    def windows(self) -> Windows | None:
        """What the refreshes have to provide; None without actions."""
        return None if self.actions is None else Windows.of(self.actions, self.rates)

    def attention_cost(self) -> float:
        """The share of the attention matrix still computed, over all sites; see `attention_of_steps`."""
        return float(np.mean(self.attention_of_steps()))

    def attention_of_steps(self) -> np.ndarray:
        """(steps,) mean over the blocks of the share of every step's attention still computed.

        It is (1 - r_q)(1 - r_v), nothing where a site broadcasts or all blocks are left out, and more than one where it
        refreshes for memory sites that reduce V: then what the reduction gets wrong takes a second, reduced attention.
        """
        zero = np.zeros((self.blocks, self.steps))
        share: np.ndarray = (1 - self.rates.get("Q", zero)) * (1 - self.rates.get("V", zero))
        windows = self.windows()
        if windows is not None:
            second = windows.rates["V"] > 0
            share = np.where(windows.table == Action.BROADCAST, 0.0, share)
            share = share + second * (1 - windows.rates["Q"]) * (1 - windows.rates["V"])
        return np.where(self.reused_steps(), 0.0, share.mean(axis=0))

    def broadcast_of_steps(self) -> np.ndarray:
        """(steps,) share of the blocks that broadcast."""
        if self.actions is None:
            return np.zeros(self.steps)
        share: np.ndarray = (self.actions == Action.BROADCAST).mean(axis=0)
        return share

    def copied_matchings(self) -> np.ndarray:
        """(blocks, steps) features that a site matches in order to copy: each where a cache window first reduces it."""
        matched = np.zeros((self.blocks, self.steps))
        for rates in self.rates.values():
            copied = rates > 0
            if self.actions is not None:
                copied &= self.actions == Action.REDUCE
            for start in range(0, self.steps, self.cache_step):
                within = copied[:, start : start + self.cache_step]
                matched[np.arange(self.blocks), start + within.argmax(axis=1)] += within.any(axis=1)
        return matched

    def matchings_of_steps(self) -> np.ndarray:
        """(steps,) features matched at every step, to copy or at refreshes for memory, mean over the blocks."""
        matched = self.copied_matchings()
        windows = self.windows()
        if windows is not None:
            matched += sum((rates > 0).astype(float) for rates in windows.rates.values())
        share: np.ndarray = matched.mean(axis=0)
        return share

    def reused_steps(self) -> np.ndarray:
        """(steps,) bool, the schedule's partner leaves out all blocks at the step, whatever is generated."""
        return np.zeros(self.steps, dtype=bool) if self.partner is None else self.partner.left_out(self.steps)

    def residual_steps(self) -> np.ndarray:
        """(steps,) bool, those of them at which what the blocks added before is added again."""
        return np.zeros(self.steps, dtype=bool) if self.partner is None else self.partner.residual(self.steps)

    def planned_sites(self) -> int:
        """How many (feature, block, step) sites are reduced, and (block, step) sites broadcast or left out."""
        broadcast = 0 if self.actions is None else np.count_nonzero(self.actions == Action.BROADCAST)
        broadcast += self.blocks * np.count_nonzero(self.reused_steps())
        return int(broadcast + sum(np.count_nonzero(table) for table in self.rates.values()))

    def content_hash(self) -> str:
        """SHA-256 over everything that decides what the schedule does."""
        content: dict[str, Any] = {
            "rates": {feature: table.round(6).tolist() for feature, table in sorted(self.rates.items())},
            "stride": self.stride,
            "cache_step": self.cache_step,
            "timesteps": self.timesteps,
            "metric": self.metric,
            "reduction": self.reduction,
            "coverage": self.coverage,
            "seed": self.seed,
        }
        if self.match_radius is not None:  # leaves the hashes of schedules without it as they were
            content["match_radius"] = self.match_radius
        if self.actions is not None:
            content["actions"] = self.actions.tolist()
        if self.partner is not None:
            content["partner"] = [self.partner.cache, dict(self.partner.settings)]
        if self.storage != "model":
            content["storage"] = self.storage
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
