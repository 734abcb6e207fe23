"""Another workload than the registry's: what a user may choose of it, and what goes with a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tuner.errors import UsageError
from tuner.models.entry import ModelEntry
from tuner.models.images import LINES, paired
from tuner.models.prompts import divided

NUMBERS = ("steps", "frames", "height", "width")
LEAST_STEPS = 2  # how far a pair's steps scatter shows from two on
LEAST_SIDE = 32  # pixels; LPIPS needs as many


@dataclass(frozen=True)
class WorkloadOptions:
    """What a user chooses of a workload; None leaves it as the registry has it.

    Attributes:
        steps: denoising steps.
        frames, height, width: size of the video, in frames and pixels.
        prompts: to tune and to certify on, see `divided`; with pictures or videos for models that start from one, see
            `paired`.
        folder: that these are named relative to.
    """

    steps: int | None = None
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    prompts: tuple[str, ...] | None = None
    folder: str = "."

    def of(self, entry: ModelEntry) -> ModelEntry:
        """The model with the workload and the prompts chosen.

        Raises:
            UsageError: they do not go with the model.
        """
        chosen = {name: getattr(self, name) for name in NUMBERS if getattr(self, name) is not None}
        for name, value in chosen.items():
            _check(name, value, entry)
        entry = entry.with_workload(**chosen)
        if self.prompts is None:
            if entry.starts_from is not None and not entry.files:
                raise UsageError(
                    f"{entry.name} starts from {entry.starts_from}s; give them and prompts with --prompts, "
                    f"{LINES[entry.starts_from]} a line."
                )
            return entry
        prompts = self.prompts
        if entry.starts_from is not None:
            files = paired(prompts, Path(self.folder), entry.starts_from)
            entry, prompts = entry.with_files(files), tuple(files)
        tuning, held_out = divided(prompts)
        _check_prompts(prompts, entry)
        return replace(entry, tuning_prompts=tuning, held_out_prompts=held_out)

    def completed(self, workload: Mapping[str, Any]) -> WorkloadOptions:
        """With the numbers of another workload where none is chosen."""
        return replace(self, **{name: workload[name] for name in NUMBERS if getattr(self, name) is None})

    def name(self, entry: ModelEntry) -> str:
        """The model's name and what sets the workload apart from the registry's, for folders.

        Raises:
            UsageError: see `of`.
        """
        usual, chosen = entry.workload, self.of(entry).workload
        parts = [entry.name]
        if chosen.frames != usual.frames:
            parts.append(f"{chosen.frames}-frames")
        if (chosen.height, chosen.width) != (usual.height, usual.width):
            parts.append(f"{chosen.height}x{chosen.width}")
        if chosen.steps != usual.steps:
            parts.append(f"{chosen.steps}-steps")
        if self.prompts is not None:
            parts.append("own-prompts")
        return "-".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, from which `from_dict` makes the same options again."""
        return {**asdict(self), "prompts": None if self.prompts is None else list(self.prompts)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> WorkloadOptions:
        """Options as an earlier run stored them; what it did not know is not chosen."""
        prompts = values.get("prompts")
        return cls(**{**values, "prompts": None if prompts is None else tuple(prompts)})


def _check(name: str, value: int, entry: ModelEntry) -> None:
    """One number must be possible at all, and go with the model; the registry's own does.

    Raises:
        UsageError: it is not or does not.
    """
    if value == getattr(entry.workload, name):
        return
    if name == "steps":
        if value < LEAST_STEPS:
            raise UsageError(f"--steps is {value}; give at least {LEAST_STEPS} denoising steps.")
    elif name == "frames":
        _check_frames(value, entry)
    else:
        _check_side(name, value, entry)


def _check_frames(value: int, entry: ModelEntry) -> None:
    sizes = entry.sizes
    if value < 1:
        raise UsageError(f"--frames is {value}; a video has at least one frame.")
    if sizes.most_frames is not None and value > sizes.most_frames:
        raise UsageError(f"--frames is {value}; {entry.name} generates at most {sizes.most_frames} frames.")
    beyond = (value - 1) % sizes.frames
    if beyond:
        raise UsageError(
            f"--frames is {value}, but {entry.name} generates one frame more than a multiple of {sizes.frames}; "
            f"give {value - beyond} or {value - beyond + sizes.frames}."
        )


def _check_side(name: str, value: int, entry: ModelEntry) -> None:
    sides = entry.sizes.sides
    if sides is None:
        raise UsageError(
            f"--{name} is {value}, but {entry.name} generates no other than {getattr(entry.workload, name)} pixels."
        )
    if value < LEAST_SIDE:
        raise UsageError(f"--{name} is {value}; give at least {LEAST_SIDE} pixels.")
    below = value // sides * sides
    if below != value:
        possible = " or ".join(str(side) for side in (below, below + sides) if side >= LEAST_SIDE)
        raise UsageError(
            f"--{name} is {value}, but {entry.name} generates multiples of {sides} pixels; give {possible}."
        )


def _check_prompts(prompts: Sequence[str], entry: ModelEntry) -> None:
    """What a model's checker judges must be prompts that it can judge.

    Raises:
        UsageError: one cannot be.
    """
    if entry.check_prompt is None:
        return
    for prompt in prompts:
        try:
            entry.check_prompt(prompt)
        except ValueError as error:
            raise UsageError(f"--prompts does not go with {entry.name}: {error}") from error
