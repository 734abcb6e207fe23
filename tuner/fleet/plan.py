"""The plan of many runs: models, workloads and targets, each combination a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tuner.commands.options import LARGEST_SEED
from tuner.context import BUDGET, LEASE, Actions, TuneOptions, partner_asked
from tuner.errors import UsageError
from tuner.models import LoadOptions, WorkloadOptions, find_model
from tuner.models.prompts import read_prompts

LARGEST = 1_000_000  # bytes of a plan
MOST = 1_000  # runs


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelPlan(_Strict):
    """A model, and how to load it."""

    name: str
    weights: Path | None = None
    offload: Literal["none", "model"] = "none"
    attention_backend: str | None = None


class WorkloadPlan(_Strict):
    """A workload; what is left out is the model's own."""

    steps: int | None = Field(default=None, ge=1)
    frames: int | None = Field(default=None, ge=1)
    height: int | None = Field(default=None, ge=1)
    width: int | None = Field(default=None, ge=1)
    prompts: Path | None = None


class Plan(_Strict):
    """What a plan file says.

    Attributes:
        models: names, or names with how to load them.
        workloads: by default each model's own.
        targets: speed-ups to certify.
        output: folder that holds the runs' folders; relative to the plan.
        budget, trials, seed, device, actions, partner (`with`), memory: of every run, as on the command line.
        workers, store, lease: where to measure, and what to share.
    """

    models: tuple[ModelPlan, ...] = Field(min_length=1)
    workloads: tuple[WorkloadPlan, ...] = Field(default=(WorkloadPlan(),), min_length=1)
    targets: tuple[float, ...] = Field(min_length=1)
    output: Path = Path("fleet")
    budget: float = Field(default=BUDGET, gt=0, allow_inf_nan=False)
    trials: int = Field(default=300, ge=1)
    seed: int = Field(default=0, ge=0, le=LARGEST_SEED)
    device: str = "cpu"
    actions: Actions = "all"
    partner: str | None = Field(default=None, alias="with")
    memory: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    workers: str | None = None
    store: str | None = None
    lease: float = Field(default=LEASE, gt=0, allow_inf_nan=False)

    @field_validator("models", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return (
            [{"name": each} if isinstance(each, str) else each for each in value] if isinstance(value, list) else value
        )

    @field_validator("workers", mode="before")
    @classmethod
    def _number(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("targets")
    @classmethod
    def _above_one(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(1 < target < float("inf") for target in value):
            raise ValueError("every target must be a speed-up above 1, such as 1.2")
        return value


def read_plan(path: Path) -> Plan:
    """A plan file, with its paths made absolute.

    Raises:
        UsageError: it cannot be read, or says something that no plan can say.
    """
    try:
        if not path.is_file():
            raise UsageError(f"There is no plan {path}; give a YAML file.")
        if path.stat().st_size > LARGEST:
            raise UsageError(f"The plan {path} is larger than {LARGEST // 1000} KB; that is no plan.")
        text = path.read_text(encoding="utf-8")
        if "&" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise UsageError(f"The plan {path} refers to parts of itself (*NAME); write them out.")
        content = yaml.safe_load(text)
        plan = Plan.model_validate(content)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The plan {path} cannot be read: {getattr(error, 'strerror', None) or 'no UTF-8'}.") from None
    except ValidationError as error:
        raise UsageError(f"The plan {path} does not say what to do: {_first(error)}.") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        where = getattr(error, "problem_mark", None)
        line = "" if where is None else f" in line {where.line + 1}"
        raise UsageError(f"The plan {path} is no YAML{line}; see docs/how-to/fleet.md for one.") from None
    base = path.absolute().parent
    models = tuple(m.model_copy(update={"weights": _below(base, m.weights)}) for m in plan.models)
    workloads = tuple(w.model_copy(update={"prompts": _below(base, w.prompts)}) for w in plan.workloads)
    return plan.model_copy(update={"models": models, "workloads": workloads, "output": _below(base, plan.output)})


def _below(base: Path, path: Path | None) -> Path | None:
    return None if path is None else base / path


def _first(error: ValidationError) -> str:
    found = error.errors()[0]
    where = ".".join(str(part) for part in found["loc"][:6]) or "the whole"
    message = " ".join(str(found["msg"]).removeprefix("Value error, ").split())
    return f"'{where[:80]}': {message[:1].lower() + message[1:200]}"


def runs_of(plan: Plan, command: str = "") -> dict[str, TuneOptions]:
    """Every run by the name of its folder, in the order of models, workloads and targets.

    Raises:
        UsageError: a model, a workload or a target cannot be, or two runs are one.
    """
    found: dict[str, TuneOptions] = {}
    for model in plan.models:
        entry = find_model(model.name)
        load = LoadOptions(model.weights, model.offload, model.attention_backend)
        for workload in plan.workloads:
            chosen = _workload(workload)
            for target in plan.targets:
                name = f"{chosen.name(entry)}-x{target:.2f}"
                if name in found:
                    raise UsageError(f"The plan has {name} twice; leave one of them out.")
                found[name] = TuneOptions(
                    model=model.name,
                    target_speedup=target,
                    output=plan.output / name,
                    budget=plan.budget,
                    seed=plan.seed,
                    trials=plan.trials,
                    resume=True,
                    device=plan.device,
                    command=command,
                    load=load,
                    actions=plan.actions,
                    memory=plan.memory,
                    partner=partner_asked(plan.partner, plan.actions),
                    workload=chosen,
                    workers=plan.workers,
                    store=plan.store,
                    lease=plan.lease,
                )
                found[name].model_entry()  # refuses what does not go with the model
    if len(found) > MOST:
        raise UsageError(f"The plan has {len(found)} runs; give at most {MOST}.")
    return found


def _workload(workload: WorkloadPlan) -> WorkloadOptions:
    chosen = WorkloadOptions(workload.steps, workload.frames, workload.height, workload.width)
    if workload.prompts is None:
        return chosen
    numbers = chosen.steps, chosen.frames, chosen.height, chosen.width
    return WorkloadOptions(*numbers, read_prompts(workload.prompts), str(workload.prompts.parent))
