"""What every stage of a tuning run shares: the options it was asked for and the things it works with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from asymrnr.actions import Action
from asymrnr.partner import Partner
from asymrnr.schedule import Schedule
from tuner.models import LoadOptions, ModelEntry, WorkloadOptions, find_model
from tuner.outlook import Part
from tuner.run.instrument import Instrument
from tuner.run.ledger import Ledger
from tuner.search.space import SearchSpace
from tuner.search.study import Keep
from tuner.strides import stride_name
from tuner.work.sharing import Sharing

BUDGET = 55.0
ALSO_IE = 25.0  # for every further target beside it
COMPARE_IE = 17.0  # that diffusers' caches take beside it, where they are asked for
LEASE = 600.0  # seconds; the longest step of a large model on a slow device takes less
AUTO, NO_PARTNER = "auto", "none"  # of `--with`
HOW = ("resume", "workers", "store", "lease")  # options that do not change what a run is; a store's URL has a password
Actions = Literal["all", "copy"]


@dataclass(frozen=True)
class TuneOptions:
    """What the user asked for.

    Attributes:
        model: name in the registry.
        target_speedup: denoising speed-up to certify, as baseline time / tuned time.
        output: folder of the run: measurements, profile, schedule, report.
        budget: inference-equivalents that may be spent in all.
        budget_chosen: whether the user said how much; where not, less is spent on models whose generations take long.
        seed: seed of the search, of the destinations and of the prompts' noise; held-out prompts rotate with it.
        trials: surrogate trials of the search.
        resume: continue from what the output folder already holds.
        device: torch device.
        command: the command line, for the record.
        load: other weights, offloading, attention backend.
        actions: what sites may do: copy as in the paper, or also restore with memory and broadcast.
        memory: GiB that refreshes may keep for later steps; None is a quarter of a GPU's, and no limit on a CPU.
        partner: a cache of diffusers to tune with (`asymrnr.Partner.parse`), "auto" for one that the search plans; None
            for none.
        compare: measure diffusers' own caches, too.
        also: further speed-ups to certify from the same profile, once the first one is.
        lpips_weights: weights of the AlexNet backbone of LPIPS; random when None.
        workload: other steps, sizes and prompts than the registry's.
        workers: None measures in this process; a number starts so many workers here, an address joins a Ray cluster.
        store: URL of a PostgreSQL database whose measurements are shared; None for none.
        lease: seconds without a sign of life after which a worker is taken to be dead.
        at_once: finalists that are measured from one search; more than one only where there are workers for it.
    """

    model: str
    target_speedup: float
    output: Path
    budget: float = BUDGET
    seed: int = 0
    trials: int = 300
    resume: bool = False
    device: str = "cpu"
    command: str = ""
    load: LoadOptions = field(default_factory=LoadOptions)
    lpips_weights: Path | None = None
    actions: Actions = "all"
    memory: float | None = None
    partner: str | None = None
    compare: bool = False
    also: tuple[float, ...] = ()
    budget_chosen: bool = True
    workload: WorkloadOptions = field(default_factory=WorkloadOptions)
    workers: str | None = None
    store: str | None = None
    lease: float = LEASE
    at_once: int = 1

    def model_entry(self) -> ModelEntry:
        """What the registry says of the model, with the workload asked for.

        Raises:
            UsageError: there is no such model, or the workload does not go with it.
        """
        return self.workload.of(find_model(self.model))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, from which `from_dict` makes the same options again; all but how and where to measure."""
        lpips_weights = None if self.lpips_weights is None else str(self.lpips_weights)
        changed = {
            "output": str(self.output),
            "load": self.load.to_dict(),
            "lpips_weights": lpips_weights,
            "workload": self.workload.to_dict(),
            "also": list(self.also),  # as JSON gives it back
        }
        return {name: value for name, value in {**asdict(self), **changed}.items() if name not in HOW}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TuneOptions:
        """Options as an earlier run stored them."""
        lpips_weights = values.get("lpips_weights")
        changed = {
            "output": Path(values["output"]),
            "load": LoadOptions.from_dict(values["load"]),
            "lpips_weights": None if lpips_weights is None else Path(lpips_weights),
            "workload": WorkloadOptions.from_dict(values.get("workload", {})),
            "also": tuple(values.get("also", ())),
        }
        return cls(**{**values, **changed})


class Progress(Protocol):
    """Where a run shows what it is doing."""

    def plan(self, parts: Sequence[Part]) -> None: ...
    def stage(self, name: str, detail: str = "") -> None: ...
    def advance(self, done: float, total: float, detail: str = "") -> None: ...
    def budget(self, spent: float, total: float, unit_seconds: float | None = None) -> None: ...
    def best(self, text: str) -> None: ...


class NoProgress:
    """Shows nothing."""

    def plan(self, parts: Sequence[Part]) -> None:
        pass

    def stage(self, name: str, detail: str = "") -> None:
        pass

    def advance(self, done: float, total: float, detail: str = "") -> None:
        pass

    def budget(self, spent: float, total: float, unit_seconds: float | None = None) -> None:
        pass

    def best(self, text: str) -> None:
        pass


@dataclass(frozen=True)
class Context:
    """One run's tools."""

    options: TuneOptions
    entry: ModelEntry
    instrument: Instrument
    space: SearchSpace
    progress: Progress
    partner: Partner | None = None  # a cache to tune with, where it is not left to the search
    sharing: Sharing | None = None  # what is shared with other runs
    keep_study: Keep | None = None  # takes finished searches, for people to look at

    @property
    def ledger(self) -> Ledger:
        return self.instrument.ledger

    @property
    def tuning_prompt(self) -> str:
        """The one prompt that profiling and verification see."""
        return self.entry.tuning_prompts(1)[0]

    @property
    def tuning_seed(self) -> int:
        """Of the profiled generation; verification has the next one."""
        return 1_000 + 2 * self.options.seed

    def at(self, target: float) -> Context:
        """The same run for another target speed-up, with the same tools and the same budget."""
        return replace(self, options=replace(self.options, target_speedup=target, also=()))

    def report_budget(self) -> None:
        self.progress.budget(self.ledger.spent_ie, self.ledger.budget_ie, self.ledger.unit_seconds)


def partner_asked(said: str | None, actions: Actions) -> str | None:
    """`TuneOptions.partner` by what was said: where nothing was, the search plans which steps are left out.

    Args:
        said: "none" for none, or else see `TuneOptions.partner`; None where nothing was said.
        actions: schedules that only copy compute every step.
    """
    if said is None:
        return None if actions == "copy" else AUTO
    return None if said == NO_PARTNER else said


def describe(schedule: Schedule) -> str:
    """A schedule in a few words."""
    stride, attention = stride_name(schedule.stride), f"attention {schedule.attention_cost():.2f}"
    without = int(schedule.reused_steps().sum())
    parts = [f"{without} of {schedule.steps} steps without their blocks"] if without else []
    if schedule.partner is not None and not without:
        parts.append(f"with {schedule.partner.cache}")
    if schedule.actions is not None:
        memory, broadcast = (float((schedule.actions == action).mean()) for action in (Action.MEMORY, Action.BROADCAST))
        kept = "" if schedule.storage == "model" else f", kept in {schedule.storage}"
        parts.append(f"memory at {memory:.0%} and broadcasting at {broadcast:.0%} of the sites{kept}")
    elif any(table.any() for table in schedule.rates.values()) or not parts:
        parts += [schedule.form, f"cache {schedule.cache_step}"]
    return ", ".join([*parts, f"stride {stride}", attention])
