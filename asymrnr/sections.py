"""The parts of an artifact: where a schedule fits, what it does, what was promised and what was measured of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from asymrnr.errors import ScheduleError
from asymrnr.partner import Partner
from asymrnr.schedule import FEATURES, Coverage, Feature, Form, Metric, Reduction, Schedule
from asymrnr.storage import Storage

RATE_DECIMALS = 6

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Unit = Annotated[float, Field(ge=0, le=1)]
Plain = str | int | float | bool | None


class Section(BaseModel):
    """A part of the document; unknown entries are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSection(Section):
    """The model the schedule was made for."""

    repo: Annotated[str, Field(min_length=1)]
    """Hub repository or registry name."""
    revision: str | None = None
    transformer: Annotated[str, Field(min_length=1)]
    """Class name of the denoiser."""
    blocks: Count
    heads: Count | None = None


class WorkloadSection(Section):
    """One generation: sizes in pixels and frames, and what decides speed and quality; None means not recorded."""

    frames: Count
    height: Count
    width: Count
    steps: Count
    guidance_scale: NotNegative | None = None
    max_sequence_length: Count | None = None
    scheduler: str | None = None
    dtype: str | None = None
    attention_backend: str | None = None
    strength: Unit | None = None
    """Of models that start from a video: share of the noise that is added to it."""
    true_cfg_scale: NotNegative | None = None
    """Of guidance in two passes, for models that are told a guidance scale besides."""
    adapters: dict[Sha256, float] = {}
    """Scale of every adapter (LoRA), by the SHA-256 of its weights. This and the following: see `Variant`."""
    quantization: str | None = None
    offload: str | None = None
    parallel: str | None = None


class PartnerSection(Section):
    """A cache of diffusers that goes along with the schedule. See `Partner` for the fields."""

    cache: Annotated[str, Field(min_length=1)]
    settings: dict[str, Any] = {}


class ScheduleSection(Section):
    """A schedule with its rates already resolved: loading needs no similarity table. See `Schedule` for the fields."""

    form: Form
    stride: tuple[Count, Count, Count]
    cache_step: Count
    metric: Metric
    match_radius: Annotated[int, Field(ge=0)] | None = None
    reduction: Reduction
    coverage: Coverage
    seed: int
    timesteps: tuple[float, ...] | None = None
    thresholds: dict[Feature, dict[Unit, Rate]] = {}
    """The rule {feature: {threshold: rate}} that the rates were resolved from, where there was one."""
    rates: dict[Feature, tuple[tuple[Rate, ...], ...]]
    """(blocks, steps) per feature."""
    actions: tuple[tuple[Annotated[int, Field(ge=0, le=3)], ...], ...] | None = None
    """(blocks, steps): what each site does beyond copying, see `asymrnr.actions.Action`."""
    partner: PartnerSection | None = None
    storage: Storage = "model"
    """How refreshes keep what later steps need."""

    @classmethod
    def from_schedule(cls, schedule: Schedule) -> ScheduleSection:
        """The section that says what this schedule does; rates are rounded to six decimals.

        Raises:
            ValueError: a rate rounds to 1 (pydantic's ValidationError).
        """
        return cls.model_validate(
            {
                "form": schedule.form,
                "stride": schedule.stride,
                "cache_step": schedule.cache_step,
                "metric": schedule.metric,
                "match_radius": schedule.match_radius,
                "reduction": schedule.reduction,
                "coverage": schedule.coverage,
                "seed": int(schedule.seed),
                "timesteps": None if schedule.timesteps is None else [float(t) for t in schedule.timesteps],
                "thresholds": {feature: dict(rule) for feature, rule in schedule.thresholds.items()},
                "rates": {
                    feature: np.round(schedule.rates[feature], RATE_DECIMALS).tolist()
                    for feature in FEATURES
                    if feature in schedule.rates
                },
                "actions": None if schedule.actions is None else schedule.actions.tolist(),
                "partner": None if schedule.partner is None else asdict(schedule.partner),
                "storage": schedule.storage,
            }
        )

    def schedule(self) -> Schedule:
        """The schedule that `asymrnr.apply` takes.

        Raises:
            ScheduleError: the rate tables do not fit together.
        """
        tables = {f"Rates of {feature}": rows for feature, rows in self.rates.items()}
        for name, rows in {**tables, "Actions": self.actions or ()}.items():
            if len({len(row) for row in rows}) > 1:
                raise ScheduleError(f"{name} have rows of different lengths; give a (blocks, steps) table.")
        return Schedule(
            rates={feature: np.array(rows, dtype=np.float64) for feature, rows in self.rates.items()},
            stride=self.stride,
            cache_step=self.cache_step,
            timesteps=self.timesteps,
            metric=self.metric,
            match_radius=self.match_radius,
            reduction=self.reduction,
            coverage=self.coverage,
            seed=self.seed,
            form=self.form,
            thresholds={str(feature): rule for feature, rule in self.thresholds.items()},
            actions=None if self.actions is None else np.array(self.actions, dtype=np.int8),
            partner=None if self.partner is None else Partner(self.partner.cache, self.partner.settings),
            storage=self.storage,
        )

    @model_validator(mode="after")
    def _is_a_schedule(self) -> ScheduleSection:
        if self.form == "threshold" and not self.thresholds:
            raise ValueError("A schedule of form 'threshold' must carry its thresholds.")
        try:
            self.schedule()
        except ScheduleError as error:
            raise ValueError(str(error)) from None
        return self


class SimilaritySection(Section):
    """The similarity table S(A, t, b) that thresholds refer to (paper section 3.4)."""

    sha256: Sha256 | None = None
    percentiles: tuple[float, float] | None = None
    """Clipping range before scaling to [0, 1], in percent."""
    bins: Count | None = None
    """Number of tiers, when the table was binned."""
    source: str | None = None


class Interval(Section):
    """A measured value with its confidence interval, where there is one."""

    value: float
    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Interval:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"The interval [{self.low}, {self.high}] is the wrong way round.")
        return self


class PredictionSection(Section):
    """What the surrogate promised before anything was generated with the schedule."""

    seconds: Positive | None = None
    """Denoising time of one generation."""
    speedup: Positive | None = None
    error: NotNegative | None = None
    bound: NotNegative | None = None
    """Smallest error any schedule that fills in as this one does can have at this speed, on the surrogate."""
    gap: float | None = None
    """(error - bound) / error."""
    p: Positive | None = None
    """Norm that aggregates the sites' errors."""
    price_of_interpretability: Positive | None = None
    """Predicted error of the best threshold rule over that of the best table."""
    rank_correlation: Interval | None = None
    """Spearman's, of predicted error and measured quality loss, where it was studied on the model."""


class Speedup(Section):
    """Baseline time over tuned time."""

    point: Positive
    lower_bound_95: Positive | None = None
    """One-sided; None for a single pair, which has no interval."""
    scope: Literal["denoise", "end_to_end"]


class EvidenceSection(Section):
    """What was measured on held-out prompts and seeds, every one of them with and without the schedule."""

    baseline_seconds: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Denoising time of every unaccelerated run."""
    tuned_seconds: Annotated[tuple[Positive, ...], Field(min_length=1)]
    speedup: Speedup
    end_to_end: Speedup | None = None
    relative_mad: NotNegative | None = None
    """Of earlier releases: scatter of run times, relative to their median."""
    pair_speedups: tuple[Positive, ...] | None = None
    """Denoising speed-up of every pair."""
    spread: NotNegative | None = None
    """Standard deviation of the pairs' log speed-ups."""
    set_aside: Unit | None = None
    """Share of the pairs' steps that something disturbed; once they were left out, now what they weigh is limited."""
    disturbed: Annotated[int, Field(ge=0)] | None = None
    """Pairs that were measured again because most of their steps were disturbed."""
    attempt: Count | None = None
    """Which schedule of its run this was: 2 says that another one was judged before, on other prompts."""
    method: str | None = None
    memory_bytes: Annotated[int, Field(ge=0)] | None = None
    """Most bytes that a generation kept for later steps at any time: matchings, and what refreshes left."""
    modes: tuple[str, ...] | None = None
    """How the two generations of a pair ran: in "lock-step", or "alternating" one after the other."""
    noise_floor: Positive | None = None
    """Mean squared error between unaccelerated videos of one prompt with different seeds."""
    quality: dict[str, Interval] = {}
    prompts_sha256: Sha256
    seeds: Annotated[tuple[int, ...], Field(min_length=1)]


class GateSection(Section):
    """One verdict on the evidence."""

    name: Annotated[str, Field(min_length=1)]
    verdict: Literal["PASS", "WARN", "FAIL"]
    threshold: float | None = None
    value: float | None = None
    message: str = ""


class LedgerRow(Section):
    """What one stage cost; ie are inference equivalents (unaccelerated generations)."""

    stage: Annotated[str, Field(min_length=1)]
    seconds: NotNegative
    ie: NotNegative | None = None
    charges: Annotated[int, Field(ge=0)] = 0


class ProvenanceSection(Section):
    """Who made the artifact, with what, where and when."""

    environment: dict[str, Plain] = {}
    """As `tuner.run.identity.environment` and `tuner.run.checkout.checkout` give it."""
    command: str | None = None
    started: str | None = None
    """ISO 8601, UTC."""
    finished: str | None = None
    source: str | None = None
    """For schedules that were not tuned here: where they come from."""


class Judged(Section):
    """A schedule with what was promised and measured of it, and the verdicts."""

    target: Positive | None = None
    """Denoising speed-up it was made for; None for schedules that were not tuned."""
    schedule: ScheduleSection
    prediction: PredictionSection | None = None
    evidence: EvidenceSection | None = None
    gates: tuple[GateSection, ...] = ()

    @property
    def proven(self) -> bool:
        """Whether evidence is there and no gate failed."""
        return self.evidence is not None and bool(self.gates) and all(gate.verdict != "FAIL" for gate in self.gates)
