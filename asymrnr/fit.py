"""Whether an artifact fits a pipeline and what is to be generated with it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

import torch

from asymrnr.actions import Action
from asymrnr.artifact import Artifact
from asymrnr.artifact_io import Policy
from asymrnr.errors import ArtifactError
from asymrnr.install import base_model, has_caches, is_compiled
from asymrnr.schedule import Schedule
from asymrnr.sections import WorkloadSection
from asymrnr.target import denoisers, engine_of, sites
from asymrnr.variant import Variant

CPU = "a CPU"
_SAID = {  # of a `Variant`: what there is, and nothing
    "quantization": ("{} weights", "plain weights"),
    "offload": ("{} offloading", "no offloading"),
    "parallel": ("sharding ({})", "one device"),
}


@dataclass(frozen=True)
class Here:
    """A pipeline, and what is to be generated with it, as far as that is known.

    Attributes:
        transformer: class name of the denoiser.
        blocks: of the denoiser.
        scheduler: class name; None for a denoiser by itself.
        dtype: of the weights, such as "bfloat16".
        device: the GPU's name, or `CPU`.
        may_cache: whether diffusers has caches for the denoiser.
        cached: whether one is enabled that no schedule brought.
        compiled: whether it runs through `torch.compile`.
        workload: of steps, frames, height and width those that are known.
        heads: of the attention; None where they are not known.
        variant: adapters, quantisation, offloading, sharding.
    """

    transformer: str
    blocks: int
    scheduler: str | None
    dtype: str
    device: str
    may_cache: bool
    cached: bool
    compiled: bool
    workload: Mapping[str, int]
    heads: int | None = None
    variant: Variant = field(default_factory=Variant)

    @classmethod
    def of(cls, target: Any, workload: Mapping[str, int | None]) -> Here:
        """What is at hand.

        Args:
            target: a diffusers pipeline or denoiser.
            workload: steps, frames, height and width of the video; None where it does not matter.

        Raises:
            InterceptionError: the model is unknown, or an adapter cannot be read.
        """
        models, engine = denoisers(target), engine_of(target)
        attentions = sites(target)[0]
        model: Any = base_model(models[0])
        scheduler = getattr(target, "scheduler", None)
        device = torch.device(getattr(target, "_execution_device", model.device))  # where offloading runs the denoiser
        applied = None if engine is None else engine.schedule
        return cls(
            transformer=type(model).__name__,
            blocks=len(attentions),
            scheduler=None if scheduler is None else type(scheduler).__name__,
            dtype=str(model.dtype).removeprefix("torch."),
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else CPU,
            may_cache=hasattr(model, "enable_cache"),
            cached=has_caches(model) and (applied is None or applied.partner is None),
            compiled=any(map(is_compiled, models)),
            workload={name: value for name, value in workload.items() if value is not None},
            heads=getattr(attentions[0], "heads", None) if attentions else None,
            variant=Variant.of(target),
        )


class NotCertified(UserWarning):
    """The schedule is predicted from those that are certified, was measured and refused, or was measured elsewhere."""


def check_fit(artifact: Artifact, here: Here, policy: Policy) -> None:
    """Refuse an artifact that was made for something else, or warn of it.

    Args:
        artifact: what is to be applied.
        here: what to.
        policy: see `asymrnr.apply`.

    Raises:
        ArtifactError: it is refused; or there is no such policy.

    Warns:
        NotCertified: it was measured elsewhere.
    """
    if policy not in get_args(Policy):
        raise ArtifactError(f"The policy is '{policy}'; choose one of {', '.join(get_args(Policy))}.")
    if policy == "off":
        return
    own = f"The schedule of {artifact.model.repo}"
    if artifact.model.transformer != here.transformer:
        raise ArtifactError(
            f"{own} is for {artifact.model.transformer}, not {here.transformer}; "
            f'tune one, or apply it all the same with policy="off".'
        )
    if (heads := other_heads(artifact, here)) is not None:
        raise ArtifactError(f'{own} {heads}; tune one, or apply it all the same with policy="off".')
    found = [remark for remark in remarks(artifact, here) if remark != f"is {artifact.why_not_certified}"]
    if not found:
        return
    said = f"{own} {' and '.join(found)}, so it is not certified here; `asymrnr-tune certify` re-checks it."
    if policy == "strict":
        raise ArtifactError(said)
    warnings.warn(said, NotCertified, stacklevel=3)


def misfits(artifact: Artifact, here: Here) -> list[str]:
    """Why the artifact's schedule cannot be used here, or would do something else than it promises."""
    found: list[str] = []
    made, schedule = artifact.model, artifact.schedule_object()
    if made.transformer != here.transformer:
        found.append(f"is for {made.transformer}")
    elif schedule.blocks != here.blocks:
        found.append(f"is for {schedule.blocks} blocks, not {here.blocks}")
    elif (heads := other_heads(artifact, here)) is not None:
        found.append(heads)
    for name, now in here.workload.items():
        was = schedule.steps if name == "steps" else getattr(artifact.workload, name)
        if was != now and (name, was) != ("steps", 1):  # one column is for any number of steps
            found.append(f"is for {name} {was}, not {now}")
    where = made_on(artifact)
    if where is not None and (where == CPU) != (here.device == CPU):
        found.append(f"was measured on {where}, not on {here.device}")
    if schedule.partner is not None and not schedule.partner.is_planned and not here.may_cache:
        found.append(f"brings {schedule.partner.cache}, but diffusers has no caches for this denoiser")
    elif schedule.partner is not None and here.cached:
        found.append(f"brings {schedule.partner.cache}, but a cache is enabled already")
    if here.compiled and (against := why_not_compiled(schedule)) is not None:
        found.append(against)
    return found


def remarks(artifact: Artifact, here: Here) -> list[str]:
    """What its certificate does not cover here, or why it has none; of a schedule that can be used."""
    found: list[str] = []
    if artifact.why_not_certified is not None:
        found.append(f"is {artifact.why_not_certified}")
    where = made_on(artifact)
    if where is not None and where != here.device:
        found.append(f"was measured on {where}, not on {here.device}")
    for name, now in (("scheduler", here.scheduler), ("dtype", here.dtype)):
        was = getattr(artifact.workload, name)
        if None not in (was, now) and was != now:
            found.append(f"was measured with {was}, not {now}")
    if artifact.evidence is not None:
        found += other_variant(artifact.workload, here.variant)
    if here.cached:
        found.append("was measured without the cache that is enabled")
    return found


def other_heads(artifact: Artifact, here: Here) -> str | None:
    """That the attention has another number of heads, so that the denoiser is another one; None where it does not."""
    heads = artifact.model.heads
    if None in (heads, here.heads) or heads == here.heads:
        return None
    return f"is for {heads} attention heads, not {here.heads}"


def other_variant(made: WorkloadSection, here: Variant) -> list[str]:
    """What was done to the weights, or where they were kept, when it was measured, and is not so here."""
    found: list[str] = []
    if dict(made.adapters) != dict(here.adapters):
        found.append(f"was measured with {_adapters(made.adapters)}, not {_adapters(here.adapters)}")
    for name, (some, none) in _SAID.items():
        was, now = getattr(made, name), getattr(here, name)
        if was != now:
            texts = (none if value is None else some.format(value) for value in (was, now))
            found.append("was measured with {}, not {}".format(*texts))
    return found


def _adapters(adapters: Mapping[str, float]) -> str:
    if not adapters:
        return "no adapter"
    return " and ".join(f"the adapter {sha256[:8]} at {scale:g}" for sha256, scale in sorted(adapters.items()))


def why_not_compiled(schedule: Schedule) -> str | None:
    """What a schedule does that `torch.compile` does not allow; None where there is nothing."""
    if "H" in schedule.rates and schedule.rates["H"].any():
        return "reduces H, which changes shapes in compiled code"
    if schedule.actions is not None and (schedule.actions == Action.BROADCAST).any():
        return "broadcasts, which leaves out compiled code"
    if schedule.partner is not None:
        return "brings a cache, which leaves out compiled code"
    return None


def made_on(artifact: Artifact) -> str | None:
    """The GPU that an artifact was measured on, or `CPU`; None where it was not measured or does not say."""
    environment = artifact.provenance.environment
    if artifact.evidence is None or "gpu" not in environment:
        return None
    return str(environment["gpu"] or CPU)
